/* The catalogue: one clean row for each item. */
MODEL (
  kind VIEW,
  grain item_id,
  audits (
    not_null(columns := (item_id, title, available)),
    unique_values(columns := (item_id)),
    no_markup(column := title),
    at_least(column := price, bound := 0)
  )
);

SELECT
  judged.item_id, /* the shop's id of the item */
  judged.title, /* name of the item as plain text */
  judged.description, /* the shop's own text without tags; may be NULL */
  judged.category, /* the shop's own category; may be NULL */
  judged.price, /* price in the shop's currency; may be NULL */
  judged.image, /* photo: path relative to the data folder, or a URL; may be NULL */
  judged.available, /* can it be bought */
  judged.attributes /* every other column of the file, to filter on */
FROM staging.judged_items AS judged
WHERE
  judged.reason IS NULL
