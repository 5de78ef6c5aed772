/* How the values of the users file are written, as a whole column shows. One row. */
MODEL (
  kind FULL,
  grain user_floats,
  audits (one_row, not_null(columns := (user_floats)))
);

WITH users AS (
  SELECT
    @are_floats(@something(@normal_form(raw.user_id), 'user_id', @declared_values)) AS user_floats
  FROM raw.users AS raw
)
SELECT
  COALESCE(users.user_floats, FALSE) AS user_floats /* whether ids are whole numbers with .0 behind, which is left out */
FROM users
