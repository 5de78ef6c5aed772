/* Every interaction, cleaned and typed, with the reason to refuse it, if there is one. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (row_number)), unique_values(columns := (row_number)))
);

WITH cleaned AS (
  SELECT
    raw.row_number,
    NULLIF(TRIM(raw.user_id), '') AS user_id,
    NULLIF(TRIM(raw.item_id), '') AS item_id,
    COALESCE(LOWER(NULLIF(TRIM(raw.event_type), '')), 'interaction') AS event_type,
    NULLIF(TRIM(raw.value), '') AS value,
    @parse_time(TRIM(raw.timestamp)) AS interacted_at
  FROM raw.interactions AS raw
)
SELECT
  cleaned.row_number, /* position in the file, from 1 */
  cleaned.user_id, /* the shop's id of the shopper */
  cleaned.item_id, /* the item looked at, put into the cart, bought ... */
  cleaned.event_type, /* what happened, in lower case; `interaction` when the log does not say */
  COALESCE(TRY_CAST(cleaned.value AS DOUBLE), 1) AS value, /* strength of the interaction; 1 when the log does not say */
  cleaned.interacted_at, /* when, in UTC */
  CASE
    WHEN cleaned.user_id IS NULL THEN 'no user id'
    WHEN cleaned.item_id IS NULL THEN 'no item id'
    WHEN NOT COALESCE(ISFINITE(cleaned.interacted_at), FALSE) THEN 'time cannot be parsed'
    WHEN cleaned.interacted_at > CAST(@execution_ts AS TIMESTAMP) + INTERVAL 1 DAY THEN 'time is in the future'
    WHEN NOT cleaned.value IS NULL AND NOT COALESCE(ISFINITE(TRY_CAST(cleaned.value AS DOUBLE)), FALSE) THEN 'value is not a number'
    WHEN TRY_CAST(cleaned.value AS DOUBLE) <= 0 THEN 'value is not positive'
    WHEN items.item_id IS NULL THEN 'unknown item'
  END AS reason /* why the row is refused; NULL when it is accepted */
FROM cleaned
LEFT JOIN staging.items AS items
  ON items.item_id = cleaned.item_id
