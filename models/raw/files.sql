/* The delivered files: how each is written, which of its columns is which, and what a person should know. */
MODEL (
  kind FULL,
  grain (table_name, file),
  audits (not_null(columns := (table_name, file, sha256, written, records, broken)))
);

SELECT
  files.table_name::TEXT AS table_name, /* items, interactions or users */
  files.file::TEXT AS file, /* path of the file in the data folder */
  files.sha256::TEXT AS sha256, /* hash of its content; empty where the file is not read */
  files.written::TEXT AS written, /* how it is written: format, delimiter, encoding; or empty, or not read */
  files.records::BIGINT AS records, /* number of records that can be read */
  files.broken::BIGINT AS broken, /* number of records that cannot be read */
  files.mapping::TEXT AS mapping, /* a line for each column of the table: its name, and the column of the file */
  files.notes::TEXT AS notes, /* what was decided by looking at the file; NULL if nothing is unusual */
  files.warnings::TEXT AS warnings /* columns that look as if they belonged to the table, and are not used, or why nothing of the file is read; NULL if there are none */
FROM @delivered_files(@items_file, @interactions_file, @users_file) AS files
