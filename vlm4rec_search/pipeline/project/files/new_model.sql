/* One row for each shopper with a history. Replace this line, the query and the comments by yours. */
MODEL (
  kind FULL,
  grain user_id,
  audits (
    not_null(columns := (user_id, events, last_at)),
    unique_values(columns := (user_id)),
    at_least(column := events, bound := 1)
  )
);

SELECT
  histories.user_id, /* the shop's id of the shopper */
  COUNT(*) AS events, /* number of events in the history */
  MAX(histories.interacted_at) AS last_at /* time of the latest event in UTC */
FROM histories.user_histories AS histories
GROUP BY
  histories.user_id
