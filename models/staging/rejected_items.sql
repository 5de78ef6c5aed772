/* The refused rows of the catalogue as delivered, each with the reason (the rules stand in staging.judged_items). */
MODEL (
  kind VIEW,
  grain row_number,
  audits (not_null(columns := (row_number, reason, record)), unique_values(columns := (row_number)))
);

SELECT
  judged.row_number, /* number of the row in the file, from 1 */
  judged.item_id, /* the shop's id of the item, if the row has one */
  raw.title, /* the title as delivered */
  judged.reason, /* why the row is refused */
  TO_JSON(
    STRUCT_PACK(
      item_id := raw.item_id, title := raw.title, description := raw.description, category := raw.category,
      price := raw.price, image := raw.image, available := raw.available, attributes := raw.attributes
    )
  )::JSON AS record /* the whole row as delivered */
FROM staging.judged_items AS judged
INNER JOIN raw.items AS raw
  ON raw.row_number = judged.row_number
WHERE
  NOT judged.reason IS NULL
