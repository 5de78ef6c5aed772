/* The accepted interactions: typed, cleaned, and with items of the catalogue. */
MODEL (
  kind VIEW,
  grain row_number,
  audits (
    not_null(columns := (row_number, user_id, item_id, event_type, value, interacted_at)),
    unique_values(columns := (row_number)),
    forall(criteria := (value > 0))
  )
);

SELECT
  judged.row_number, /* number of the row in all files of the table, from 1 */
  judged.user_id, /* the shop's id of the shopper */
  judged.item_id, /* an item of staging.items */
  judged.event_type, /* kind of event in lower case, such as view or purchase */
  judged.value, /* strength of the interaction; positive */
  judged.interacted_at /* time of the interaction in UTC */
FROM staging.judged_interactions AS judged
WHERE
  judged.reason IS NULL
