/* Every row of the users file, cleaned. The rules that refuse a row are the CASE of the column `reason`. Attributes make a segment from five shoppers on, since those of fewer may be what is known of a person, such as a birthday. */
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
    @something(delivered.segment, 'segment', @declared_values) AS named,
    @plain_text(@attributes_text(delivered.attributes, @declared_values)) AS attributes
  FROM delivered
  LEFT JOIN staging.user_formats AS formats
    ON formats.file = delivered.file
), judged AS (
  SELECT
    cleaned.row_number,
    cleaned.user_id,
    cleaned.named,
    COALESCE(cleaned.named, cleaned.attributes) AS segment,
    CASE
      WHEN cleaned.user_id IS NULL THEN 'no user id'
      WHEN cleaned.named LIKE 'category:%' THEN 'segment is named like a category'
      WHEN ROW_NUMBER() OVER (PARTITION BY cleaned.user_id ORDER BY cleaned.row_number) > 1 THEN 'repeated user id'
    END AS reason
  FROM cleaned
), counted AS (
  SELECT
    judged.row_number,
    judged.user_id,
    judged.named,
    judged.segment,
    judged.reason,
    COUNT(CASE WHEN judged.reason IS NULL THEN 1 END) OVER (PARTITION BY judged.segment) AS shoppers
  FROM judged
)
SELECT
  counted.row_number, /* number of the row in all files of the table, from 1 */
  counted.user_id::TEXT AS user_id, /* the shop's id of the shopper */
  CASE WHEN NOT counted.named IS NULL OR (counted.shoppers >= 5 AND NOT counted.segment LIKE 'category:%') THEN counted.segment::TEXT END AS segment, /* the column segment; if it is empty, all attributes in one text by name, such as "country FR, tier gold", that at least 5 accepted shoppers have */
  counted.reason /* why the row is refused; NULL if it is accepted */
FROM counted
