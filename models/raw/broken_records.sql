/* The records of the delivered files that cannot be read as rows, such as a line with too many values. They are refused rows as well: see staging.rejected_*. */
MODEL (
  kind FULL,
  grain (file, line),
  audits (not_null(columns := (table_name, file, line, reason, record)))
);

SELECT
  broken.table_name::TEXT AS table_name, /* items, interactions or users */
  broken.file::TEXT AS file, /* path of the file in the data folder */
  broken.line::BIGINT AS line, /* line of the file on which the record begins, from 1; of Parquet the number of the record */
  broken.reason::TEXT AS reason, /* why it cannot be read */
  broken.record::TEXT AS record /* its text */
FROM @broken_records(@items_file, @interactions_file, @users_file) AS broken
