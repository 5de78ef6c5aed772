/* The attributes of each item, and its details: the category and the attribute values that are words. */
MODEL (
  kind FULL,
  grain item_id,
  audits (
    not_null(columns := (item_id, captioner)),
    unique_values(columns := (item_id))
  )
);

WITH described AS (
  SELECT
    captions.item_id,
    captions.caption,
    captions.captioner,
    items.category,
    CASE
      WHEN COALESCE(captions.attributes::TEXT, '{}') = '{}'
      THEN items.attributes
      ELSE @merged_json(captions.attributes, items.attributes)
    END AS attributes
  FROM captions.item_captions AS captions
  INNER JOIN staging.items AS items
    ON items.item_id = captions.item_id
), fields AS (
  SELECT
    described.item_id,
    '' AS field, /* the category stands first */
    described.category AS text
  FROM described
  UNION ALL
  SELECT
    described.item_id,
    attribute.key AS field,
    @json_text(attribute.value, attribute.type) AS text
  FROM described
  CROSS JOIN @json_entries(described.attributes) AS attribute
), elements AS (
  /* A list can be JSON or text that is JSON. */
  SELECT
    fields.item_id,
    fields.field,
    UNNEST(@list_elements(fields.text)) AS value
  FROM fields
  WHERE
    NOT fields.text IS NULL
), phrases AS (
  SELECT
    elements.item_id,
    TRIM(REGEXP_REPLACE(elements.value, '\s*[/>|]+\s*', ' ', 'g')) AS phrase,
    MIN(elements.field) AS field
  FROM elements
  WHERE
    /* no addresses, file names and nested values; no switches; no numbers and codes, which have many digits */
    @matches(elements.value, '[\p{L}\p{M}\p{N} \-''’&+%,.()/>|]{1,80}')
    AND NOT LOWER(elements.value) IN ('true', 'false', 'null')
    AND LENGTH(REGEXP_REPLACE(elements.value, '[^\p{L}]', '', 'g')) >= GREATEST(
      2 * LENGTH(REGEXP_REPLACE(elements.value, '[^\p{N}]', '', 'g')), 1
    )
  GROUP BY
    elements.item_id,
    phrase
), details AS (
  SELECT
    phrases.item_id,
    STRING_AGG(phrases.phrase, ', ' ORDER BY phrases.field, phrases.phrase) AS details
  FROM phrases
  GROUP BY
    phrases.item_id
)
SELECT
  described.item_id, /* an item of staging.items */
  described.caption, /* description of the photo by the captioner; NULL without one */
  described.captioner, /* id of the captioner, with its revision */
  described.attributes::JSON AS attributes, /* all other columns of the catalogue; the captioner's attributes fill those that are missing */
  details.details /* category and attribute values that are words, such as "bags, Alder, winter"; NULL without any */
FROM described
LEFT JOIN details
  ON details.item_id = described.item_id
