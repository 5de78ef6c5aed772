/* How the values of each file are written, as a whole column shows or as contract.yaml declares. One row. */
MODEL (
  kind FULL,
  grain item_floats,
  audits (one_row, not_null(columns := (item_floats, log_item_floats, log_user_floats, user_floats)))
);

WITH items AS (
  SELECT
    @are_floats(raw.item_id) AS item_floats,
    @the_only(@decimal_sign(raw.price)) AS decimal
  FROM raw.items AS raw
), log AS (
  SELECT
    @are_floats(@something(raw.item_id, 'item_id', @declared_values)) AS item_floats,
    @are_floats(@something(raw.user_id, 'user_id', @declared_values)) AS user_floats,
    @the_only(@decimal_sign(raw.value)) AS decimal
  FROM raw.interactions AS raw
), users AS (
  SELECT
    @are_floats(@something(raw.user_id, 'user_id', @declared_values)) AS user_floats
  FROM raw.users AS raw
)
SELECT
  COALESCE(items.item_floats, FALSE) AS item_floats, /* whether the ids of items are whole numbers with .0 behind, which is left out */
  COALESCE(log.item_floats, FALSE) AS log_item_floats, /* the same of item ids in the log */
  COALESCE(log.user_floats, FALSE) AS log_user_floats, /* the same of shoppers' ids in the log */
  COALESCE(users.user_floats, FALSE) AS user_floats, /* the same of ids in the users file */
  COALESCE(@declared('decimal', @declared_values), items.decimal)::TEXT AS price_decimal, /* decimal sign of prices; NULL if no price shows it, or prices contradict each other */
  COALESCE(@declared('decimal', @declared_values), log.decimal)::TEXT AS value_decimal /* decimal sign of values in the log */
FROM items
CROSS JOIN log
CROSS JOIN users
