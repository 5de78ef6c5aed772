/* The refused interactions as delivered, each with the reason (the rules stand in staging.judged_interactions). */
MODEL (
  kind VIEW,
  grain row_number,
  audits (not_null(columns := (row_number, reason, record)), unique_values(columns := (row_number)))
);

SELECT
  judged.row_number, /* number of the row in the file, from 1 */
  judged.user_id, /* the shop's id of the shopper, if the row has one */
  judged.item_id, /* the shop's id of the item, if the row has one */
  judged.reason, /* why the row is refused */
  TO_JSON(
    STRUCT_PACK(
      user_id := raw.user_id, item_id := raw.item_id, timestamp := raw.timestamp, event_type := raw.event_type,
      value := raw.value, attributes := raw.attributes
    )
  )::JSON AS record /* the whole row as delivered */
FROM staging.judged_interactions AS judged
INNER JOIN raw.interactions AS raw
  ON raw.row_number = judged.row_number
WHERE
  NOT judged.reason IS NULL
