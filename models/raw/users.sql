/* The shoppers as delivered: one row for each record of users.{csv,csv.gz,parquet,jsonl}, as text; empty without one. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (row_number, attributes)), unique_values(columns := (row_number)))
);

SELECT
  files.file::TEXT AS file, /* hash of the file that the row stands in */
  files.row_number::BIGINT AS row_number, /* position in the file, from 1 */
  files.user_id::TEXT AS user_id, /* the shop's id of the shopper */
  files.segment::TEXT AS segment, /* group that the shop puts the shopper into */
  files.attributes::JSON AS attributes /* every other column of the file */
FROM @raw_file('users', @users_file, 'user_id', 'segment') AS files
