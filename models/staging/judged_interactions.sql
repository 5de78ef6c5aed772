/* Every interaction, typed and cleaned. The rules that refuse a row are the CASE of the column `reason`. */
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
  cleaned.row_number, /* number of the row in the file, from 1 */
  cleaned.user_id, /* the shop's id of the shopper */
  cleaned.item_id, /* the shop's id of the item that was viewed, put into the cart, bought ... */
  cleaned.event_type, /* kind of event in lower case; `interaction` if the log has none */
  COALESCE(TRY_CAST(cleaned.value AS DOUBLE), 1) AS value, /* strength of the interaction; 1 if the log has none */
  cleaned.interacted_at, /* time of the interaction in UTC */
  CASE
    WHEN cleaned.user_id IS NULL THEN 'no user id'
    WHEN cleaned.item_id IS NULL THEN 'no item id'
    WHEN NOT COALESCE(ISFINITE(cleaned.interacted_at), FALSE) THEN 'time cannot be parsed'
    WHEN cleaned.interacted_at > CAST(@execution_ts AS TIMESTAMP) + INTERVAL 1 DAY THEN 'time is in the future'
    WHEN NOT cleaned.value IS NULL AND NOT COALESCE(ISFINITE(TRY_CAST(cleaned.value AS DOUBLE)), FALSE) THEN 'value is not a number'
    WHEN TRY_CAST(cleaned.value AS DOUBLE) <= 0 THEN 'value is not positive'
    WHEN items.item_id IS NULL THEN 'unknown item'
  END AS reason /* why the row is refused; NULL if it is accepted */
FROM cleaned
LEFT JOIN staging.items AS items
  ON items.item_id = cleaned.item_id
