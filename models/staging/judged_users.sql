/* Every row of the users file, cleaned. The rules that refuse a row are the CASE of the column `reason`. */
MODEL (
  kind FULL,
  grain row_number,
  audits (not_null(columns := (row_number)), unique_values(columns := (row_number)))
);

WITH delivered AS (
  SELECT
    raw.file,
    raw.row_number,
    @normal_form(raw.user_id) AS user_id,
    @plain_text(raw.segment) AS segment,
    raw.attributes
  FROM raw.users AS raw
), cleaned AS (
  SELECT
    delivered.row_number,
    @without_fraction(@something(delivered.user_id, 'user_id', @declared_values), formats.user_floats) AS user_id,
    COALESCE(
      @something(delivered.segment, 'segment', @declared_values),
      @plain_text(@attributes_text(delivered.attributes, @declared_values))
    ) AS segment
  FROM delivered
  LEFT JOIN staging.user_formats AS formats
    ON formats.file = delivered.file
)
SELECT
  cleaned.row_number, /* number of the row in all files of the table, from 1 */
  cleaned.user_id::TEXT AS user_id, /* the shop's id of the shopper */
  cleaned.segment::TEXT AS segment, /* the column segment; if it is empty, all attributes in one text, such as "country FR, tier gold" */
  CASE
    WHEN cleaned.user_id IS NULL THEN 'no user id'
    WHEN cleaned.segment LIKE 'category:%' THEN 'segment is named like a category'
    WHEN ROW_NUMBER() OVER (PARTITION BY cleaned.user_id ORDER BY cleaned.row_number) > 1 THEN 'repeated user id'
  END AS reason /* why the row is refused; NULL if it is accepted */
FROM cleaned
