/* The values that filters compare: one row for each item, field and value. A list has a row for each element. */
MODEL (
  kind FULL,
  grain (item_id, field, value),
  audits (
    not_null(columns := (item_id, field, value)),
    unique_combination_of_columns(columns := (item_id, field, value)),
    forall(criteria := (number IS NULL OR ABS(number) < 1e308))
  )
);

WITH attributes AS (
  SELECT
    documents.item_id,
    attribute.key AS field,
    attribute.type AS type,
    @json_text(attribute.value, attribute.type) AS text
  FROM search.item_documents AS documents
  CROSS JOIN @json_entries(documents.attributes) AS attribute
), elements AS (
  /* Lists can be JSON or text that is JSON. Any other nested value counts as its JSON text. */
  SELECT
    attributes.item_id,
    attributes.field,
    UNNEST(@list_elements(attributes.text)) AS value
  FROM attributes
  WHERE
    attributes.type <> 'NULL'
), fields AS (
  SELECT
    documents.item_id,
    'category' AS field,
    documents.category AS value,
    @as_number(documents.category) AS number
  FROM search.item_documents AS documents
  UNION ALL
  SELECT
    documents.item_id,
    'price' AS field,
    @number_text(documents.price) AS value,
    documents.price AS number
  FROM search.item_documents AS documents
  UNION ALL
  SELECT
    documents.item_id,
    'available' AS field,
    documents.available::TEXT AS value,
    NULL AS number
  FROM search.item_documents AS documents
  UNION ALL
  SELECT
    elements.item_id,
    elements.field,
    elements.value,
    @as_number(elements.value) AS number
  FROM elements
), plain AS (
  /* The spelling that filters use: 5 for 5.0, 6.5 for 6.50, true for True. */
  SELECT
    fields.item_id,
    fields.field,
    CASE
      WHEN LOWER(fields.value) IN ('true', 'false')
      THEN LOWER(fields.value)
      WHEN @matches(fields.value, '-?(0|[1-9][0-9]*)\.[0-9]+')
      THEN REGEXP_REPLACE(REGEXP_REPLACE(fields.value, '0+$', ''), '\.$', '')
      ELSE fields.value
    END AS value,
    fields.number
  FROM fields
  WHERE
    NOT fields.value IS NULL
)
SELECT
  plain.item_id, /* the shop's id of the item */
  plain.field::TEXT AS field, /* category, price, available, or a key of the document's attributes */
  plain.value::TEXT AS value, /* the value as text, in the spelling that filters use */
  MAX(plain.number) FILTER(WHERE @is_finite(plain.number)) AS number /* the value as a number below 1e308, for ranges such as 10..50; NULL for other values */
FROM plain
GROUP BY
  plain.item_id,
  plain.field,
  plain.value
