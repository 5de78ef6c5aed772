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

SELECT
  items.item_id, /* the shop's id of the item */
  items.title, /* name of the item */
  items.description, /* the shop's own text; may be NULL */
  captions.caption, /* what the captioner says of the photo; may be NULL */
  items.category, /* the shop's own category; may be NULL */
  items.price, /* price in the shop's currency; may be NULL */
  items.available, /* can it be bought */
  items.image, /* photo; may be NULL */
  items.attributes, /* every other column of the catalogue */
  embeddings.vector, /* unit vector of the item's text */
  embeddings.encoder, /* encoder and its revision */
  captions.captioner, /* captioner and its revision */
  SHA256(
    TO_JSON(
      [
        items.title, items.description, captions.caption, items.category, items.price::TEXT, items.available::TEXT,
        items.image, items.attributes::TEXT, embeddings.encoder, embeddings.text_hash, captions.captioner
      ]
    )::TEXT
  ) AS content_hash /* changes when, and only when, the document does */
FROM staging.items AS items
INNER JOIN captions.item_captions AS captions
  ON captions.item_id = items.item_id
INNER JOIN embeddings.item_embeddings AS embeddings
  ON embeddings.item_id = items.item_id
