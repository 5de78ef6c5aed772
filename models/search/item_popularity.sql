/* Items by what shoppers did of late, as of the moment of the tables: a leg of its own, and the answer for strangers. */
MODEL (
  kind FULL,
  grain item_id,
  audits (
    not_null(columns := (item_id, interactions, recent, rank)),
    unique_values(columns := (item_id, rank)),
    at_least(column := interactions, bound := 1),
    at_least(column := recent, bound := 0)
  )
);

WITH counts AS (
  SELECT
    likes.item_id,
    COUNT(*) AS interactions,
    COUNT(*) FILTER(WHERE likes.days < @popularity_days) AS recent
  FROM profiles.likes AS likes
  GROUP BY
    likes.item_id
)
SELECT
  counts.item_id, /* an item that an event speaks for */
  counts.interactions, /* how many such events ever */
  counts.recent, /* how many in the last days (popularity_days of the ranking configuration) */
  ROW_NUMBER() OVER (
    ORDER BY counts.recent DESC, counts.interactions DESC, counts.item_id
  )::INT AS rank /* 1 is the most popular */
FROM counts
