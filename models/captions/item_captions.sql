/* One row for each item: what the active captioner, or a person, says of its photo, or why nobody says anything. */
MODEL (
  kind VIEW,
  grain item_id,
  audits (
    not_null(columns := (item_id, status, captioner)),
    unique_values(columns := (item_id)),
    caption_or_error()
  )
);

SELECT
  captions.item_id, /* an item of staging.items */
  captions.image, /* photo as the catalogue names it; NULL when it names none */
  captions.photo_hash, /* sha256 of the photo's bytes; NULL when it cannot be read */
  captions.status, /* ok, or why there is no caption */
  captions.caption, /* the description; NULL unless the status is ok */
  captions.error, /* what went wrong, or what was done to the photo before it was shown */
  captions.captioner, /* captioner and its revision */
  captions.prompt, /* prompt and its version */
  captions.answer, /* what the captioner said, whatever the status; NULL when it said nothing */
  captions.attributes, /* fields of a structured answer */
  captions.editor, /* who wrote the caption by hand; NULL when the captioner did */
  captions.edit_note, /* what the editor noted */
  LENGTH(captions.caption) AS characters, /* length of the caption; NULL without one */
  captions.tokens_in, /* tokens of prompt and photo; NULL when no call was made */
  captions.tokens_out, /* tokens of the answer; NULL when no call was made */
  captions.seconds /* time of the model call; NULL when no call was made */
FROM captions.all_captions AS captions
WHERE
  captions.active
