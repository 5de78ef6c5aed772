/* Every row of the catalogue, typed and cleaned. The CASE in `ruled` refuses a row for its own values; the column `reason` adds the rule on repeated ids. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (row_number)), unique_values(columns := (row_number)))
);

WITH cleaned AS (
  SELECT
    raw.row_number,
    NULLIF(TRIM(raw.item_id), '') AS item_id,
    @plain_text(@decoded(raw.title)) AS title,
    @plain_text(@without_tags(@decoded(@decoded(raw.description)))) AS description,
    @plain_text(@without_tags(@decoded(raw.category))) AS category,
    NULLIF(TRIM(raw.price), '') AS price,
    NULLIF(TRIM(raw.image), '') AS image,
    COALESCE(NULLIF(TRIM(raw.available), ''), 'true') AS available,
    raw.attributes
  FROM raw.items AS raw
), ruled AS (
  SELECT
    cleaned.*,
    CASE
      WHEN cleaned.item_id IS NULL THEN 'no id'
      WHEN cleaned.title IS NULL THEN 'no title'
      WHEN REGEXP_MATCHES(cleaned.title, @markup) THEN 'title is markup or page script'
      WHEN NOT cleaned.price IS NULL AND NOT COALESCE(ISFINITE(TRY_CAST(cleaned.price AS DOUBLE)), FALSE) THEN 'price is not a number'
      WHEN TRY_CAST(cleaned.price AS DOUBLE) < 0 THEN 'negative price'
      WHEN TRY_CAST(cleaned.available AS BOOLEAN) IS NULL THEN 'available is neither true nor false'
    END AS rule
  FROM cleaned
)
SELECT
  ruled.row_number, /* number of the row in the file, from 1 */
  ruled.item_id, /* the shop's id of the item; a row without one is refused */
  ruled.title, /* name of the item as plain text */
  CASE WHEN NOT REGEXP_MATCHES(ruled.description, @markup) THEN ruled.description END AS description, /* description of the item by the shop, without tags; NULL if it contains page script */
  ruled.category, /* category of the item in the shop */
  TRY_CAST(ruled.price AS DOUBLE) AS price, /* price in the shop's currency */
  ruled.image, /* path of the photo relative to the data folder, or its URL */
  TRY_CAST(ruled.available AS BOOLEAN) AS available, /* whether the item can be bought; TRUE if the file has no value */
  ruled.attributes, /* all other columns of the file */
  COALESCE(
    ruled.rule,
    CASE
      WHEN ROW_NUMBER() OVER (PARTITION BY ruled.item_id, ruled.rule IS NULL ORDER BY ruled.row_number) > 1
      THEN 'duplicate id'
    END
  ) AS reason /* why the row is refused; NULL if it is accepted; of equal ids the first row that breaks no rule is accepted */
FROM ruled
