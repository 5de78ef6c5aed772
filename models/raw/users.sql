/* The shoppers as delivered, as text: one row for each record of users.{csv,csv.gz,parquet,jsonl}, if there is one. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (row_number, attributes)), unique_values(columns := (row_number)))
);

SELECT
  files.file::TEXT AS file, /* sha256 of the file */
  files.row_number::BIGINT AS row_number, /* number of the row in the file, from 1 */
  files.user_id::TEXT AS user_id, /* the shop's id of the shopper */
  files.segment::TEXT AS segment, /* group to which the shop assigns the shopper */
  files.attributes::JSON AS attributes /* all other columns of the file */
FROM @raw_file('users', @users_file, 'user_id', 'segment') AS files
