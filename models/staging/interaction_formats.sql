/* How each file of the log writes its values, as its columns show or as contract.yaml declares. What a file does not show, the other files of the table show. */
MODEL (
  kind FULL,
  grain file,
  audits (unique_values(columns := (file)), not_null(columns := (file, item_floats, user_floats)))
);

WITH named AS (
  SELECT
    raw.file,
    @is_event(raw.file) AS is_event,
    @something(@normal_form(raw.item_id), 'item_id', @declared_values) AS item_id,
    @something(@normal_form(raw.user_id), 'user_id', @declared_values) AS user_id,
    @something(@normal_form(raw.value), 'value', @declared_values) AS value,
    @normal_form(raw.timestamp) AS timestamp,
    @event_name(@normal_form(raw.event_type), @declared_values) AS event_type
  FROM raw.interactions AS raw
), rows AS (
  SELECT
    named.file,
    named.is_event,
    named.item_id,
    named.user_id,
    named.timestamp,
    @decimal_sign(named.value) AS decimal,
    @date_order(named.timestamp) AS date_order,
    @has_dots(named.timestamp) AS has_dots,
    CASE
      WHEN @is_rating(named.event_type, @declared_values)
      THEN @parse_number(named.value, @declared('decimal', @declared_values))
    END AS rating
  FROM named
), files AS (
  SELECT
    rows.file,
    rows.is_event, /* events of the service are written in one way */
    COALESCE(@are_floats(rows.item_id), FALSE) AND NOT rows.is_event AS item_floats,
    COALESCE(@are_floats(rows.user_id), FALSE) AND NOT rows.is_event AS user_floats,
    @the_only(rows.decimal) AS decimal,
    COUNT(rows.decimal) > 0 AS has_decimal,
    @the_only(rows.date_order) AS date_order,
    COUNT(rows.date_order) > 0 AS has_order,
    BOOL_AND(rows.has_dots) AS has_dots,
    @are_days(rows.timestamp) AS are_days
  FROM rows
  GROUP BY
    rows.file,
    rows.is_event
), whole AS (
  SELECT
    CASE WHEN NOT BOOL_OR(files.has_decimal AND files.decimal IS NULL) THEN @the_only(files.decimal) END AS decimal,
    CASE WHEN NOT BOOL_OR(files.has_order AND files.date_order IS NULL) THEN @the_only(files.date_order) END AS date_order,
    BOOL_AND(files.has_dots) AS has_dots
  FROM files
  WHERE
    NOT files.is_event
), ratings AS (
  SELECT
    COALESCE(
      @rating_scale(CASE WHEN NOT rows.is_event THEN rows.rating END),
      CASE
        WHEN COUNT(CASE WHEN NOT rows.is_event THEN rows.rating END) = 0
        THEN NULLIF(@rating_scale(rows.rating), 1) /* an event has no 0, so that ones alone may be stars or thumbs */
      END
    ) AS rating_scale
  FROM rows
)
SELECT
  files.file::TEXT AS file, /* path of the file in the data folder, or of a day of events */
  files.item_floats::BOOLEAN AS item_floats, /* whether item ids are whole numbers with .0 behind, which is left out */
  files.user_floats::BOOLEAN AS user_floats, /* the same of shoppers' ids */
  COALESCE(
    @declared('decimal', @declared_values),
    files.decimal,
    CASE WHEN NOT files.has_decimal THEN whole.decimal END
  )::TEXT AS value_decimal, /* decimal sign of values; NULL if no value shows it, or values contradict each other */
  COALESCE(
    @declared('time_form', @declared_values),
    files.date_order,
    CASE
      WHEN files.has_order
      THEN NULL
      WHEN files.are_days
      THEN 'days'
      /* the day stands first in dates with dots, unless other dates with dots show otherwise */
      WHEN files.has_dots AND (NOT whole.has_dots OR whole.date_order IS NULL)
      THEN 'dmy'
      ELSE whole.date_order
    END
  )::TEXT AS time_form, /* dmy or mdy: order of day and month in times such as 01/03/2024; days: times count days as spreadsheets do; NULL if no time shows it, or times contradict each other */
  COALESCE(@declared('rating_scale', @declared_values)::DOUBLE, ratings.rating_scale)::DOUBLE AS rating_scale /* the best rating on the scale of the log, or on that of the events of the service where the log shows none; NULL if neither shows one */
FROM files
CROSS JOIN whole
CROSS JOIN ratings
