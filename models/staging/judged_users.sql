/* Every row of the users file, cleaned. The rules that refuse a row are the CASE of the column `reason`. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (row_number)), unique_values(columns := (row_number)))
);

WITH cleaned AS (
  SELECT
    raw.row_number,
    NULLIF(TRIM(raw.user_id), '') AS user_id,
    COALESCE(
      @plain_text(raw.segment),
      @plain_text(
        ARRAY_TO_STRING(
          LIST_TRANSFORM(
            MAP_ENTRIES(raw.attributes::MAP(TEXT, TEXT)), pair -> pair.key || ' ' || NULLIF(TRIM(pair.value), '')
          ),
          ', '
        )
      )
    ) AS segment
  FROM raw.users AS raw
)
SELECT
  cleaned.row_number, /* number of the row in the file, from 1 */
  cleaned.user_id, /* the shop's id of the shopper */
  cleaned.segment, /* the column segment; if it is empty, all attributes in one text, such as "country FR, tier gold" */
  CASE
    WHEN cleaned.user_id IS NULL THEN 'no user id'
    WHEN cleaned.segment LIKE 'category:%' THEN 'segment is named like a category'
    WHEN ROW_NUMBER() OVER (PARTITION BY cleaned.user_id ORDER BY cleaned.row_number) > 1 THEN 'repeated user id'
  END AS reason /* why the row is refused; NULL if it is accepted */
FROM cleaned
