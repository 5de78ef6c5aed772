/* Exactly what is indexed: one document for each item, with a hash of its content. */
MODEL (
  kind FULL,
  grain item_id,
  audits (
    not_null(columns := (item_id, title, available, vector, encoder, captioner, content_hash)),
    unique_values(columns := (item_id)),
    unit_vectors(column := vector),
    one_dimension(column := vector)
  )
);

WITH described AS (
  SELECT
    captions.item_id,
    captions.caption,
    captions.captioner,
    CASE
      WHEN COALESCE(captions.attributes::TEXT, '{}') = '{}'
      THEN items.attributes
      ELSE JSON_MERGE_PATCH(captions.attributes, JSON_MERGE_PATCH('{}', items.attributes))
    END AS attributes
  FROM captions.item_captions AS captions
  INNER JOIN staging.items AS items
    ON items.item_id = captions.item_id
)
SELECT
  items.item_id, /* the shop's id of the item */
  items.title, /* name of the item */
  items.description, /* the shop's own text; may be NULL */
  described.caption, /* what the captioner says of the photo; may be NULL */
  items.category, /* the shop's own category; may be NULL */
  items.price, /* price in the shop's currency; may be NULL */
  items.available, /* can it be bought */
  items.image, /* photo; may be NULL */
  described.attributes::JSON AS attributes, /* every other column of the catalogue, and what the captioner found where it has none */
  embeddings.vector, /* unit vector of the item's text */
  embeddings.encoder, /* encoder and its revision */
  described.captioner, /* captioner and its revision */
  SHA256(
    TO_JSON(
      [
        items.title, items.description, described.caption, items.category, items.price::TEXT, items.available::TEXT,
        items.image, described.attributes::TEXT, embeddings.encoder, embeddings.text_hash,
        described.captioner
      ]
    )::TEXT
  ) AS content_hash /* changes when, and only when, the document does */
FROM staging.items AS items
INNER JOIN described
  ON described.item_id = items.item_id
INNER JOIN embeddings.item_embeddings AS embeddings
  ON embeddings.item_id = items.item_id
