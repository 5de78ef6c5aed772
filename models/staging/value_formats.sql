/* How the values of each file are written, as a whole column shows or as contract.yaml declares. One row. */
MODEL (
  kind FULL,
  grain item_floats,
  audits (one_row, not_null(columns := (item_floats, log_item_floats, log_user_floats, user_floats)))
);

WITH items AS (
  SELECT
    @are_floats(@something(raw.item_id, 'item_id', @declared_values)) AS item_floats,
    @the_only(@decimal_sign(raw.price)) AS decimal
  FROM raw.items AS raw
), log AS (
  SELECT
    @are_floats(@something(raw.item_id, 'item_id', @declared_values)) AS item_floats,
    @are_floats(@something(raw.user_id, 'user_id', @declared_values)) AS user_floats,
    @the_only(@decimal_sign(raw.value)) AS decimal,
    @the_only(@date_order(raw.timestamp)) AS date_order,
    COUNT(@date_order(raw.timestamp)) > 0 AS has_order,
    COALESCE(BOOL_AND(@has_dots(raw.timestamp)), FALSE) AS has_dots,
    COALESCE(@are_days(raw.timestamp), FALSE) AS are_days,
    @rating_scale(
      CASE
        WHEN @is_rating(@event_name(raw.event_type, @declared_values), @declared_values)
        THEN @parse_number(raw.value, @declared('decimal', @declared_values))
      END
    ) AS rating_scale
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
  COALESCE(@declared('decimal', @declared_values), log.decimal)::TEXT AS value_decimal, /* decimal sign of values in the log */
  COALESCE(
    @declared('time_form', @declared_values),
    log.date_order,
    CASE WHEN log.has_order THEN NULL WHEN log.are_days THEN 'days' WHEN log.has_dots THEN 'dmy' END
  )::TEXT AS time_form, /* dmy or mdy: order of day and month in times such as 01/03/2024; days: times count days as spreadsheets do; NULL if no time shows it, or times contradict each other */
  COALESCE(@declared('rating_scale', @declared_values)::DOUBLE, log.rating_scale)::DOUBLE AS rating_scale /* the best rating; NULL without ratings */
FROM items
CROSS JOIN log
CROSS JOIN users
