/* The catalogue as delivered, as text: one row for each record of items.*, or of the files in the folder items. Records that cannot be read stand in raw.broken_records. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (file, row_number, line, attributes)), unique_values(columns := (row_number)))
);

SELECT
  files.file::TEXT AS file, /* path of the file in the data folder */
  files.row_number::BIGINT AS row_number, /* number of the row in all files of the table, from 1 */
  files.line::BIGINT AS line, /* line of the file on which the record begins, from 1; of Parquet the number of the record */
  files.item_id::TEXT AS item_id, /* the shop's id of the item */
  files.title::TEXT AS title, /* name of the item */
  files.description::TEXT AS description, /* description of the item by the shop */
  files.category::TEXT AS category, /* category of the item in the shop */
  files.price::TEXT AS price, /* price, as delivered */
  files.image::TEXT AS image, /* path of the photo relative to the data folder, or its URL */
  files.available::TEXT AS available, /* whether the item can be bought, as delivered */
  files.attributes::JSON AS attributes /* all other columns of the file */
FROM @raw_file(
  'items', @items_file, 'item_id', 'title', 'description', 'category', 'price', 'image', 'available'
) AS files
