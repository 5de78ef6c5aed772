/* The interaction log as delivered, as text: one row for each record of interactions.*, or of the files in the folder interactions. Records that cannot be read stand in raw.broken_records. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (file, row_number, line, attributes)), unique_values(columns := (row_number)))
);

SELECT
  files.file::TEXT AS file, /* path of the file in the data folder */
  files.row_number::BIGINT AS row_number, /* number of the row in all files of the table, from 1 */
  files.line::BIGINT AS line, /* line of the file on which the record begins, from 1; of Parquet the number of the record */
  files.user_id::TEXT AS user_id, /* the shop's id of the shopper */
  files.item_id::TEXT AS item_id, /* the shop's id of the item that was viewed, put into the cart, bought ... */
  files.timestamp::TEXT AS timestamp, /* time of the interaction, as delivered */
  files.event_type::TEXT AS event_type, /* kind of event, such as view or purchase; NULL if the log has no such column */
  files.value::TEXT AS value, /* strength of the interaction, such as a quantity or a rating, as delivered */
  files.attributes::JSON AS attributes /* all other columns of the file */
FROM @raw_file(
  'interactions', @interactions_file, 'user_id', 'item_id', 'timestamp', 'event_type', 'value'
) AS files
