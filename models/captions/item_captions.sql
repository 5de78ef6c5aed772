/* One row for each item, with the caption by the active captioner or a person, or the reason why there is none. */
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
  captions.image, /* path or URL of the photo in the catalogue; NULL without a photo */
  captions.photo_hash, /* sha256 of the photo's bytes; NULL if the photo cannot be read */
  captions.status, /* ok, or the kind of reason why there is no caption */
  captions.caption, /* description of the photo; NULL unless the status is ok */
  captions.error, /* reason for the status, or a remark on an ok caption, such as a change to the photo */
  captions.captioner, /* captioner with its revision */
  captions.prompt, /* prompt with its version */
  captions.answer, /* answer of the captioner, whatever the status; NULL without an answer */
  captions.attributes, /* fields of a structured answer; empty for a manual caption */
  captions.editor, /* person who wrote a manual caption; NULL for a caption by the captioner */
  captions.edit_note, /* note of the editor */
  LENGTH(captions.caption) AS characters, /* length of the caption; NULL without one */
  captions.tokens_in, /* tokens of prompt and photo; NULL without a model call */
  captions.tokens_out, /* tokens of the answer; NULL without a model call */
  captions.seconds /* duration of the model call; NULL without a model call */
FROM captions.all_captions AS captions
WHERE
  captions.active
