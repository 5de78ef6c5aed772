/* Every interaction, typed and cleaned. The CASE in `ruled` refuses a row for its own values; the column `reason` adds the rule on purchases that are delivered twice. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (row_number)), unique_values(columns := (row_number)))
);

WITH delivered AS (
  SELECT
    raw.file,
    raw.row_number,
    @is_event(raw.file) AS is_event,
    @normal_form(raw.user_id) AS user_id,
    @normal_form(raw.item_id) AS item_id,
    @normal_form(raw.event_type) AS event_type,
    @normal_form(raw.value) AS value,
    @normal_form(raw.timestamp) AS time
  FROM raw.interactions AS raw
), named AS (
  SELECT
    delivered.file,
    delivered.row_number,
    delivered.is_event,
    @something(delivered.user_id, 'user_id', @declared_values) AS user_id,
    @something(delivered.item_id, 'item_id', @declared_values) AS item_id,
    @something(delivered.event_type, 'event_type', @declared_values) AS event_type,
    @something(delivered.value, 'value', @declared_values) AS value,
    @something(delivered.time, 'timestamp', @declared_values) AS time
  FROM delivered
), cleaned AS (
  SELECT
    named.row_number,
    named.is_event,
    @without_fraction(named.user_id, formats.user_floats) AS user_id,
    @without_fraction(named.item_id, formats.item_floats) AS item_id,
    COALESCE(@event_name(named.event_type, @declared_values), 'interaction') AS event_type,
    named.value,
    named.time,
    formats.value_decimal,
    formats.time_form,
    formats.rating_scale
  FROM named
  LEFT JOIN staging.interaction_formats AS formats
    ON formats.file = named.file
), timed AS (
  SELECT
    cleaned.*,
    @is_rating(cleaned.event_type, @declared_values) AS is_rating,
    @parse_number(cleaned.value, cleaned.value_decimal) AS number,
    @parse_time(cleaned.time, cleaned.time_form, @declared_values) AS interacted_at
  FROM cleaned
), catalogue AS (
  SELECT
    judged.item_id,
    BOOL_OR(judged.reason IS NULL) AS is_accepted,
    ARG_MIN(judged.reason, judged.row_number) AS reason
  FROM staging.judged_items AS judged
  GROUP BY
    judged.item_id
), ruled AS (
  SELECT
    cleaned.row_number,
    cleaned.is_event,
    cleaned.user_id,
    cleaned.item_id,
    @judged_event(cleaned.event_type, cleaned.is_rating, cleaned.number, cleaned.rating_scale) AS event_type,
    @judged_value(cleaned.event_type, cleaned.is_rating, cleaned.number, cleaned.rating_scale) AS value,
    cleaned.interacted_at,
    CASE
      WHEN cleaned.user_id IS NULL THEN 'no user id'
      WHEN cleaned.item_id IS NULL THEN 'no item id'
      WHEN cleaned.time IS NULL THEN 'no time'
      WHEN NOT @is_time(cleaned.interacted_at) THEN @time_problem(cleaned.time, cleaned.time_form, @declared_values)
      WHEN cleaned.interacted_at < TIMESTAMP '1901-01-01' THEN 'time is before 1901, which programs write for no time'
      WHEN cleaned.interacted_at > CAST(@execution_ts AS TIMESTAMP) + INTERVAL 1 DAY THEN 'time is in the future'
      WHEN NOT cleaned.value IS NULL AND NOT COALESCE(@is_finite(cleaned.number), FALSE) THEN 'value is not a number'
      WHEN cleaned.is_rating AND cleaned.number > cleaned.rating_scale THEN 'rating is above its scale'
      WHEN cleaned.number < 0 AND (cleaned.is_rating OR NOT @has_quantity(cleaned.event_type)) THEN 'value is not positive'
      WHEN cleaned.number = 0 AND NOT (cleaned.is_rating AND NOT cleaned.rating_scale IS NULL) THEN 'value is not positive'
      WHEN @is_cut_id(cleaned.item_id) OR @is_cut_id(cleaned.user_id)
      THEN 'the id is a rounded number such as 1.23E+12: a spreadsheet has cut its digits'
      WHEN catalogue.is_accepted IS NULL THEN 'unknown item'
      WHEN NOT catalogue.is_accepted THEN 'the item was refused: ' || catalogue.reason
    END AS rule
  FROM timed AS cleaned
  LEFT JOIN catalogue
    ON catalogue.item_id = cleaned.item_id
), purchases AS (
  SELECT
    ruled.row_number,
    ruled.is_event,
    ruled.user_id,
    ruled.item_id,
    ruled.interacted_at
  FROM ruled
  WHERE
    ruled.rule IS NULL AND @is_purchase(ruled.event_type)
), delivered_twice AS (
  /* purchases in the service's events that the shop's log also has */
  SELECT
    events.row_number
  FROM purchases AS events
  SEMI JOIN (
    SELECT purchases.user_id, purchases.item_id, purchases.interacted_at FROM purchases WHERE NOT purchases.is_event
  ) AS own
    ON own.user_id = events.user_id
    AND own.item_id = events.item_id
    AND own.interacted_at BETWEEN events.interacted_at - INTERVAL 1 DAY AND events.interacted_at + INTERVAL 1 DAY
  WHERE
    events.is_event
)
SELECT
  ruled.row_number, /* number of the row in all files of the table, from 1 */
  ruled.user_id::TEXT AS user_id, /* the shop's id of the shopper */
  ruled.item_id::TEXT AS item_id, /* the shop's id of the item that was viewed, put into the cart, bought ... */
  ruled.event_type::TEXT AS event_type, /* kind of event as in profiles.event_weights; `interaction` if the log has none; a low rating is a dislike, a negative purchase a return */
  ruled.value::DOUBLE AS value, /* strength of the interaction; 1 if the log has none; of ratings that like an item, the stars of five */
  ruled.interacted_at::TIMESTAMP AS interacted_at, /* time of the interaction in UTC */
  COALESCE(
    ruled.rule,
    CASE WHEN NOT delivered_twice.row_number IS NULL THEN 'the purchase is in the log of the shop, too' END
  )::TEXT AS reason /* why the row is refused; NULL if it is accepted */
FROM ruled
LEFT JOIN delivered_twice
  ON delivered_twice.row_number = ruled.row_number
