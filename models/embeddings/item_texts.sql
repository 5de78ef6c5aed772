/* The exact text of each item that is embedded: caption and title, as in the paper; without a caption the shop's text. */
MODEL (
  kind FULL,
  grain item_id,
  audits (
    not_null(columns := (item_id, text, source)),
    unique_values(columns := (item_id)),
    accepted_values(column := source, is_in := ('caption', 'description', 'title'))
  )
);

SELECT
  items.item_id, /* an item of staging.items */
  COALESCE(
    RTRIM(captions.caption, '.') || '. ' || items.title,
    RTRIM(items.title, '.') || COALESCE('. ' || items.description, '')
  ) AS text, /* what the encoder reads; what stands first counts most */
  CASE
    WHEN NOT captions.caption IS NULL THEN 'caption'
    WHEN NOT items.description IS NULL THEN 'description'
    ELSE 'title'
  END AS source /* what stands beside the title */
FROM staging.items AS items
LEFT JOIN captions.item_captions AS captions
  ON captions.item_id = items.item_id AND captions.status = 'ok'
