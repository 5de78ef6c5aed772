/* The interaction log as delivered: one row for each record of interactions.{csv,csv.gz,parquet,jsonl}, as text. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (row_number, attributes)), unique_values(columns := (row_number)))
);

SELECT
  files.file::TEXT AS file, /* hash of the file that the row stands in */
  files.row_number::BIGINT AS row_number, /* position in the file, from 1 */
  files.user_id::TEXT AS user_id, /* the shop's id of the shopper */
  files.item_id::TEXT AS item_id, /* the item looked at, put into the cart, bought ... */
  files.timestamp::TEXT AS timestamp, /* when, as written */
  files.event_type::TEXT AS event_type, /* what happened; NULL when the log has no such column */
  files.value::TEXT AS value, /* strength of the interaction, as written */
  files.attributes::JSON AS attributes /* every other column of the file */
FROM @raw_file(
  'interactions', @interactions_file, 'user_id', 'item_id', 'timestamp', 'event_type', 'value'
) AS files
