/* One document for each shopper with a history or a row in the users file, as a release publishes it. */
MODEL (
  kind FULL,
  grain user_id,
  audits (
    not_null(columns := (user_id, items, history, seen, terms, interests, behaviour, shoppers, repeats, categories)),
    unique_values(columns := (user_id)),
    unit_vectors(column := vector),
    one_dimension(column := vector),
    unit_vectors(column := fitted),
    one_dimension(column := fitted)
  )
);

WITH histories AS (
  SELECT
    weights.user_id,
    LIST_SORT(ARRAY_AGG(weights.item_id) FILTER(WHERE weights.counts)) AS seen, /* items that were only shown to the shopper may come again */
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
    @in_key_order(interests.rank, interests.vector, interests.importance, interests.medoid, interests.items) AS interests
  FROM profiles.interests AS interests
  GROUP BY
    interests.user_id
), similar AS (
  SELECT
    similar_shoppers.user_id,
    @in_order(similar_shoppers.rank, similar_shoppers.item_id, similar_shoppers.score) AS shoppers
  FROM search.similar_shoppers AS similar_shoppers
  GROUP BY
    similar_shoppers.user_id
), again AS (
  SELECT
    repeat_items.user_id,
    @in_order(repeat_items.rank, repeat_items.item_id, repeat_items.score, repeat_items.times, repeat_items.last_on) AS repeats
  FROM profiles.repeat_items AS repeat_items
  GROUP BY
    repeat_items.user_id
)
SELECT
  COALESCE(histories.user_id, users.user_id) AS user_id, /* the shop's id of the shopper */
  COALESCE(profiles.items, 0)::INT AS items, /* number of items that the vector is made of */
  profiles.vector, /* profile vector, of length 1; NULL without an item that the shopper likes */
  COALESCE(histories.history, []) AS history, /* items of the profile; the sum of weight x item vector is the profile vector */
  COALESCE(histories.seen, []) AS seen, /* items that answers leave out: those of the history, except items that were only shown */
  COALESCE(words.terms, [])::STRUCT(term TEXT, word TEXT, weight DOUBLE)[] AS terms, /* weighted words of the lexical retriever, the largest weight first */
  COALESCE(tastes.interests, [])::STRUCT(vector FLOAT[], importance DOUBLE, medoid TEXT, items TEXT[])[] AS interests, /* interests of profiles.interests, the most important first */
  COALESCE(starts.items, [])::STRUCT(item_id TEXT, weight DOUBLE, lasting DOUBLE)[] AS behaviour, /* items of profiles.recent_items, from which co-purchases (weight, sum 1) and EASE (lasting) start */
  COALESCE(similar.shoppers, [])::STRUCT(item_id TEXT, score DOUBLE)[] AS shoppers, /* items of search.similar_shoppers, the largest score first */
  COALESCE(again.repeats, [])::STRUCT(item_id TEXT, score DOUBLE, times INT, last_on TEXT)[] AS repeats, /* items of profiles.repeat_items, the largest score first */
  users.segment, /* the shop's own group of the shopper; NULL without one */
  COALESCE(favourites.categories, [])::TEXT[] AS categories, /* up to three categories of profiles.favourite_categories, the best first */
  learned.vector AS fitted /* learned vector of profiles.fitted_profiles, of length 1; NULL without one */
FROM histories
FULL JOIN staging.users AS users
  ON users.user_id = histories.user_id
LEFT JOIN profiles.user_profiles AS profiles
  ON profiles.user_id = histories.user_id
LEFT JOIN profiles.fitted_profiles AS learned
  ON learned.user_id = histories.user_id
LEFT JOIN words
  ON words.user_id = histories.user_id
LEFT JOIN tastes
  ON tastes.user_id = histories.user_id
LEFT JOIN similar
  ON similar.user_id = histories.user_id
LEFT JOIN again
  ON again.user_id = histories.user_id
LEFT JOIN profiles.recent_items AS starts
  ON starts.user_id = histories.user_id
LEFT JOIN profiles.favourite_categories AS favourites
  ON favourites.user_id = histories.user_id
