/* Exactly what is indexed for each shopper who has a history or stands in the users file. */
MODEL (
  kind FULL,
  grain user_id,
  audits (
    not_null(columns := (user_id, items, history, seen, terms, interests, behaviour, categories)),
    unique_values(columns := (user_id)),
    unit_vectors(column := vector),
    one_dimension(column := vector)
  )
);

WITH histories AS (
  SELECT
    weights.user_id,
    LIST_SORT(ARRAY_AGG(weights.item_id) FILTER(WHERE weights.counts)) AS seen, /* what was merely shown may be shown again */
    LIST_SORT(
      ARRAY_AGG(STRUCT_PACK(item_id := weights.item_id, weight := weights.weight / profiles.length))
      FILTER(WHERE weights.weight <> 0 AND NOT profiles.length IS NULL)
    ) AS history
  FROM profiles.profile_weights AS weights
  LEFT JOIN profiles.user_profiles AS profiles
    ON profiles.user_id = weights.user_id
  GROUP BY
    weights.user_id
), words AS (
  SELECT
    terms.user_id,
    @in_order(terms.rank, terms.term, terms.word, terms.weight) AS terms
  FROM profiles.term_weights AS terms
  GROUP BY
    terms.user_id
), tastes AS (
  SELECT
    interests.user_id,
    @in_order(interests.rank, interests.vector, interests.importance, interests.medoid, interests.items) AS interests
  FROM profiles.interests AS interests
  GROUP BY
    interests.user_id
)
SELECT
  COALESCE(histories.user_id, users.user_id) AS user_id, /* the shop's id of the shopper */
  COALESCE(profiles.items, 0)::INT AS items, /* number of items behind the vector */
  profiles.vector, /* unit vector of the profile; NULL where nothing speaks for a direction */
  COALESCE(histories.history, []) AS history, /* items with weights such that the vector is the sum of weight x item vector */
  COALESCE(histories.seen, []) AS seen, /* items of the history, but for those merely shown; left out of answers */
  COALESCE(words.terms, [])::STRUCT(term TEXT, word TEXT, weight DOUBLE)[] AS terms, /* the weighted words of the lexical leg */
  COALESCE(tastes.interests, [])::STRUCT(vector FLOAT[], importance DOUBLE, medoid TEXT, items TEXT[])[] AS interests, /* profiles.interests, the most important first */
  COALESCE(starts.items, [])::STRUCT(item_id TEXT, weight DOUBLE)[] AS behaviour, /* profiles.recent_items: where co-purchases start; weights sum to 1 */
  users.segment, /* group that the shop puts the shopper into; may be NULL */
  COALESCE(favourites.categories, [])::TEXT[] AS categories /* profiles.favourite_categories: up to three, best first */
FROM histories
FULL JOIN staging.users AS users
  ON users.user_id = histories.user_id
LEFT JOIN profiles.user_profiles AS profiles
  ON profiles.user_id = histories.user_id
LEFT JOIN words
  ON words.user_id = histories.user_id
LEFT JOIN tastes
  ON tastes.user_id = histories.user_id
LEFT JOIN profiles.recent_items AS starts
  ON starts.user_id = histories.user_id
LEFT JOIN profiles.favourite_categories AS favourites
  ON favourites.user_id = histories.user_id
