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

SELECT
  items.item_id, /* the shop's id of the item */
  items.title, /* name of the item */
  items.description, /* the shop's own text; NULL without one */
  told.caption, /* description of the photo by the captioner; NULL without one */
  items.category, /* the shop's own category; NULL without one */
  items.price, /* price in the shop's currency; NULL without one */
  items.available, /* whether the item can be bought */
  items.image, /* file name or address of the photo; NULL without one */
  told.details, /* category and attribute values that are words; NULL without any */
  told.attributes, /* all other columns of the catalogue; the captioner's attributes fill those that are missing */
  embeddings.vector, /* embedding of the item's text, of length 1 */
  embeddings.encoder, /* id of the sentence encoder, with its revision */
  told.captioner, /* id of the captioner, with its revision */
  SHA256(
    @json_list(
      items.title, items.description, told.caption, items.category, @number_text(items.price), items.available::TEXT,
      items.image, told.attributes::TEXT, told.details, embeddings.encoder, embeddings.text_hash, told.captioner
    )
  ) AS content_hash /* SHA-256 of the other columns; encoder and embedded text stand for the vector */
FROM staging.items AS items
INNER JOIN captions.item_details AS told
  ON told.item_id = items.item_id
INNER JOIN embeddings.item_embeddings AS embeddings
  ON embeddings.item_id = items.item_id
