/* The refused interactions as delivered, each with the reason (most rules stand in staging.judged_interactions). */
MODEL (
  kind VIEW,
  grain (file, line),
  audits (not_null(columns := (file, line, reason, record)), unique_values(columns := (row_number), condition := NOT row_number IS NULL))
);

SELECT
  judged.row_number, /* number of the row in all files of the table, from 1; NULL if the record cannot be read */
  raw.file, /* path of the file in the data folder */
  raw.line, /* line of the file on which the record begins, from 1; of Parquet the number of the record */
  judged.user_id, /* the shop's id of the shopper, if the row has one */
  judged.item_id, /* the shop's id of the item, if the row has one */
  judged.reason, /* why the row is refused */
  @json_record(
    raw.user_id, raw.item_id, raw.timestamp, raw.event_type,
    raw.value, raw.attributes
  )::JSON AS record /* the whole row as delivered; the text of a record that cannot be read */
FROM staging.judged_interactions AS judged
INNER JOIN raw.interactions AS raw
  ON raw.row_number = judged.row_number
WHERE
  NOT judged.reason IS NULL
UNION ALL
SELECT
  NULL::BIGINT AS row_number,
  broken.file,
  broken.line,
  NULL::TEXT AS user_id,
  NULL::TEXT AS item_id,
  CASE WHEN broken.reason = 'forgotten' THEN broken.reason ELSE 'cannot be read: ' || broken.reason END AS reason,
  @json_string(broken.record)::JSON AS record
FROM raw.broken_records AS broken
WHERE
  broken.table_name = 'interactions'
