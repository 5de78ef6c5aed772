/* The shoppers as delivered, as text: one row for each record of users.*, or of the files in the folder users, if there are any. Records that cannot be read stand in raw.broken_records. */
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
  files.segment::TEXT AS segment, /* group to which the shop assigns the shopper */
  files.attributes::JSON AS attributes /* all other columns of the file */
FROM @raw_file('users', @users_file, 'user_id', 'segment') AS files
