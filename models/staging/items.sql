/* The accepted items: one typed, cleaned row for each item. */
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
  judged.description, /* description of the item by the shop, without tags; may be NULL */
  judged.category, /* category of the item in the shop; may be NULL */
  judged.price, /* price in the shop's currency; may be NULL */
  judged.image, /* path of the photo relative to the data folder, or its URL; may be NULL */
  judged.available, /* whether the item can be bought */
  judged.attributes /* all other columns of the file, for filters */
FROM staging.judged_items AS judged
WHERE
  judged.reason IS NULL
