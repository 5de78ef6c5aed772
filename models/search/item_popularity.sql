/* How often shoppers took each item, ever and of late, as of the moment of the tables. */
MODEL (
  kind FULL,
  grain item_id,
  audits (
    not_null(columns := (item_id, interactions, recent, score, rank)),
    unique_values(columns := (item_id, rank)),
    at_least(column := interactions, bound := 1),
    at_least(column := recent, bound := 0),
    at_least(column := score, bound := 0)
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
  counts.item_id, /* an item that at least one event of profiles.likes names */
  counts.interactions, /* number of all such events */
  counts.recent, /* number of such events in the last popularity_days days (ranking configuration) */
  counts.recent + counts.interactions / (
    1 + MAX(counts.interactions) OVER ()
  ) AS score, /* score of the popularity retriever: recent, plus interactions / (1 + the largest interactions), which is below 1 and orders items of equal recent */
  ROW_NUMBER() OVER (
    ORDER BY counts.recent DESC, counts.interactions DESC, counts.item_id
  )::INT AS rank /* 1 for the most popular item */
FROM counts
