/* The values of accepted items that could not be read or contain page script, as delivered, each with the reason. The items count without them. */
MODEL (
  kind VIEW,
  grain (row_number, field),
  audits (
    not_null(columns := (row_number, item_id, field, value, reason)),
    unique_combination_of_columns(columns := (row_number, field))
  )
);

SELECT
  judged.row_number, /* number of the row in all files of items, from 1 */
  judged.item_id, /* an item of staging.items */
  'price' AS field, /* column of the file */
  raw.price AS value, /* the value as delivered */
  judged.price_reason AS reason /* why it was left out */
FROM staging.judged_items AS judged
INNER JOIN raw.items AS raw
  ON raw.row_number = judged.row_number
WHERE
  judged.reason IS NULL AND NOT judged.price_reason IS NULL
UNION ALL
SELECT
  judged.row_number,
  judged.item_id,
  'available' AS field,
  raw.available AS value,
  judged.available_reason AS reason
FROM staging.judged_items AS judged
INNER JOIN raw.items AS raw
  ON raw.row_number = judged.row_number
WHERE
  judged.reason IS NULL AND NOT judged.available_reason IS NULL
UNION ALL
SELECT
  judged.row_number,
  judged.item_id,
  'description' AS field,
  raw.description AS value,
  judged.description_reason AS reason
FROM staging.judged_items AS judged
INNER JOIN raw.items AS raw
  ON raw.row_number = judged.row_number
WHERE
  judged.reason IS NULL AND NOT judged.description_reason IS NULL
