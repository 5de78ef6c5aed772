/* How the values of the log are written, as a whole column shows or as contract.yaml declares. One row. */
MODEL (
  kind FULL,
  grain item_floats,
  audits (one_row, not_null(columns := (item_floats, user_floats)))
);

WITH log AS (
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
  WHERE
    NOT @is_event(raw.file) /* events of the service are written in one way */
)
SELECT
  COALESCE(log.item_floats, FALSE) AS item_floats, /* whether item ids are whole numbers with .0 behind, which is left out */
  COALESCE(log.user_floats, FALSE) AS user_floats, /* the same of shoppers' ids */
  COALESCE(@declared('decimal', @declared_values), log.decimal)::TEXT AS value_decimal, /* decimal sign of values; NULL if no value shows it, or values contradict each other */
  COALESCE(
    @declared('time_form', @declared_values),
    log.date_order,
    CASE WHEN log.has_order THEN NULL WHEN log.are_days THEN 'days' WHEN log.has_dots THEN 'dmy' END
  )::TEXT AS time_form, /* dmy or mdy: order of day and month in times such as 01/03/2024; days: times count days as spreadsheets do; NULL if no time shows it, or times contradict each other */
  COALESCE(@declared('rating_scale', @declared_values)::DOUBLE, log.rating_scale)::DOUBLE AS rating_scale /* the best rating; NULL without ratings */
FROM log
