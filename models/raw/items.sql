/* The catalogue as delivered: one row for each record of items.{csv,csv.gz,parquet,jsonl}, as text, nothing dropped. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (row_number, attributes)), unique_values(columns := (row_number)))
);

SELECT
  files.file::TEXT AS file, /* hash of the file that the row stands in */
  files.row_number::BIGINT AS row_number, /* position in the file, from 1 */
  files.item_id::TEXT AS item_id, /* the shop's id of the item */
  files.title::TEXT AS title, /* name of the item */
  files.description::TEXT AS description, /* the shop's own text */
  files.category::TEXT AS category, /* the shop's own category */
  files.price::TEXT AS price, /* price, as written */
  files.image::TEXT AS image, /* photo: path relative to the data folder, or a URL */
  files.available::TEXT AS available, /* can it be bought, as written */
  files.attributes::JSON AS attributes /* every other column of the file */
FROM @raw_file(
  'items', @items_file, 'item_id', 'title', 'description', 'category', 'price', 'image', 'available'
) AS files
