/* How each users file writes its values, as its columns show. */
MODEL (
  kind FULL,
  grain file,
  audits (unique_values(columns := (file)), not_null(columns := (file, user_floats)))
);

WITH rows AS (
  SELECT
    raw.file,
    @something(@normal_form(raw.user_id), 'user_id', @declared_values) AS user_id
  FROM raw.users AS raw
)
SELECT
  rows.file::TEXT AS file, /* path of the file in the data folder */
  COALESCE(@are_floats(rows.user_id), FALSE)::BOOLEAN AS user_floats /* whether ids are whole numbers with .0 behind, which is left out */
FROM rows
GROUP BY
  rows.file
