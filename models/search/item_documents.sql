/* One document for each item, as a release publishes it, with a hash of its content. */
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
  items.description, /* the shop's own text; NULL without one */
  described.caption, /* description of the photo by the captioner; NULL without one */
  items.category, /* the shop's own category; NULL without one */
  items.price, /* price in the shop's currency; NULL without one */
  items.available, /* whether the item can be bought */
  items.image, /* file name or address of the photo; NULL without one */
  described.attributes::JSON AS attributes, /* all other columns of the catalogue; the captioner's attributes fill those that are missing */
  embeddings.vector, /* embedding of the item's text, of length 1 */
  embeddings.encoder, /* id of the sentence encoder, with its revision */
  described.captioner, /* id of the captioner, with its revision */
  SHA256(
    TO_JSON(
      [
        items.title, items.description, described.caption, items.category, items.price::TEXT, items.available::TEXT,
        items.image, described.attributes::TEXT, embeddings.encoder, embeddings.text_hash,
        described.captioner
      ]
    )::TEXT
  ) AS content_hash /* SHA-256 of the other columns; encoder and embedded text stand for the vector */
FROM staging.items AS items
INNER JOIN described
  ON described.item_id = items.item_id
INNER JOIN embeddings.item_embeddings AS embeddings
  ON embeddings.item_id = items.item_id
