/* How much each item of a history counts in the shopper's profile, and why. To begin with the paper's plain mean. */
MODEL (
  kind FULL,
  grain (user_id, item_id),
  audits (
    not_null(columns := (user_id, item_id, weight, why)),
    unique_combination_of_columns(columns := (user_id, item_id)),
    at_least(column := weight, bound := 0)
  )
);

SELECT
  histories.user_id, /* the shop's id of the shopper */
  histories.item_id, /* an item of the history */
  1.0::DOUBLE AS weight, /* weight of the item's vector and words */
  'plain mean; ' || COUNT(*) || ' x ' || STRING_AGG(DISTINCT histories.event_type, ', ' ORDER BY histories.event_type) AS why /* the reason, for people */
FROM histories.user_histories AS histories
GROUP BY
  histories.user_id,
  histories.item_id
