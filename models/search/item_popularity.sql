/* Items by number of interactions as of the moment of the tables: the answer for shoppers that nobody knows. */
MODEL (
  kind FULL,
  grain item_id,
  audits (
    not_null(columns := (item_id, interactions, rank)),
    unique_values(columns := (item_id, rank)),
    at_least(column := interactions, bound := 1)
  )
);

SELECT
  histories.item_id, /* an item with at least one interaction */
  COUNT(*) AS interactions, /* how many */
  ROW_NUMBER() OVER (ORDER BY COUNT(*) DESC, histories.item_id)::INT AS rank /* 1 is the most popular */
FROM histories.user_histories AS histories
GROUP BY
  histories.item_id
