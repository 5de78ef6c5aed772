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

/* Lists are sorted as structs, since DuckDB's ordered ARRAY_AGG takes three times as long and as much memory. */
WITH shoppers AS (
  SELECT
    weights.user_id
  FROM profiles.profile_weights AS weights
  UNION
  SELECT
    users.user_id
  FROM staging.users AS users
), seen AS (
  SELECT
    weights.user_id,
    LIST_SORT(ARRAY_AGG(weights.item_id)) AS seen
  FROM profiles.profile_weights AS weights
  WHERE
    weights.counts /* what was merely shown may be shown again */
  GROUP BY
    weights.user_id
), weighted AS (
  SELECT
    weights.user_id,
    LIST_SORT(
      ARRAY_AGG(STRUCT_PACK(item_id := weights.item_id, weight := weights.weight / profiles.length))
    ) AS history
  FROM profiles.profile_weights AS weights
  INNER JOIN profiles.user_profiles AS profiles
    ON profiles.user_id = weights.user_id
  WHERE
    weights.weight <> 0
  GROUP BY
    weights.user_id
), words AS (
  SELECT
    terms.user_id,
    LIST_TRANSFORM(
      LIST_SORT(
        ARRAY_AGG(
          STRUCT_PACK(rank := terms.rank, term := terms.term, word := terms.word, weight := terms.weight)
        )
      ),
      item -> STRUCT_PACK(term := item.term, word := item.word, weight := item.weight)
    ) AS terms
  FROM profiles.term_weights AS terms
  GROUP BY
    terms.user_id
), tastes AS (
  SELECT
    interests.user_id,
    LIST_TRANSFORM(
      LIST_SORT(
        ARRAY_AGG(
          STRUCT_PACK(
            rank := interests.rank,
            vector := interests.vector,
            importance := interests.importance,
            medoid := interests.medoid,
            items := interests.items
          )
        )
      ),
      taste -> STRUCT_PACK(
        vector := taste.vector,
        importance := taste.importance,
        medoid := taste.medoid,
        items := taste.items
      )
    ) AS interests
  FROM profiles.interests AS interests
  GROUP BY
    interests.user_id
), latest AS (
  SELECT
    weights.user_id,
    LIST_SORT(
      ARRAY_AGG(STRUCT_PACK(negative := -weights.recent, item_id := weights.item_id))
    )[1:100] AS items
  FROM profiles.profile_weights AS weights
  WHERE
    weights.recent > 1e-9
  GROUP BY
    weights.user_id
), starts AS (
  SELECT
    latest.user_id,
    latest.items,
    -LIST_SUM(LIST_TRANSFORM(latest.items, item -> item.negative)) AS total
  FROM latest
), liked AS (
  SELECT
    weights.user_id,
    items.category,
    SUM(weights.weight) AS weight
  FROM profiles.profile_weights AS weights
  INNER JOIN staging.items AS items
    ON items.item_id = weights.item_id
  WHERE
    weights.weight > 0 AND NOT items.category IS NULL
  GROUP BY
    weights.user_id,
    items.category
), favourites AS (
  SELECT
    liked.user_id,
    LIST_TRANSFORM(
      LIST_SORT(
        ARRAY_AGG(STRUCT_PACK(negative := -liked.weight, category := liked.category))
      )[1:3],
      liking -> liking.category
    ) AS categories
  FROM liked
  GROUP BY
    liked.user_id
)
SELECT
  shoppers.user_id, /* the shop's id of the shopper */
  COALESCE(profiles.items, 0)::INT AS items, /* number of items behind the vector */
  profiles.vector, /* unit vector of the profile; NULL where nothing speaks for a direction */
  COALESCE(weighted.history, []) AS history, /* items with weights such that the vector is the sum of weight x item vector */
  COALESCE(seen.seen, []) AS seen, /* items of the history, but for those merely shown; left out of answers */
  COALESCE(words.terms, [])::STRUCT(term TEXT, word TEXT, weight DOUBLE)[] AS terms, /* the weighted words of the lexical leg */
  COALESCE(tastes.interests, [])::STRUCT(vector FLOAT[], importance DOUBLE, medoid TEXT, items TEXT[])[] AS interests, /* profiles.interests, the most important first */
  COALESCE(
    LIST_TRANSFORM(
      starts.items,
      item -> STRUCT_PACK(item_id := item.item_id, weight := -item.negative / starts.total)
    ),
    []
  )::STRUCT(item_id TEXT, weight DOUBLE)[] AS behaviour, /* the 100 items of most recent weight, from which co-purchases start; weights sum to 1 */
  users.segment, /* group that the shop puts the shopper into; may be NULL */
  COALESCE(favourites.categories, [])::TEXT[] AS categories /* up to three favourite categories, best first */
FROM shoppers
LEFT JOIN profiles.user_profiles AS profiles
  ON profiles.user_id = shoppers.user_id
LEFT JOIN weighted
  ON weighted.user_id = shoppers.user_id
LEFT JOIN seen
  ON seen.user_id = shoppers.user_id
LEFT JOIN words
  ON words.user_id = shoppers.user_id
LEFT JOIN tastes
  ON tastes.user_id = shoppers.user_id
LEFT JOIN starts
  ON starts.user_id = shoppers.user_id
LEFT JOIN staging.users AS users
  ON users.user_id = shoppers.user_id
LEFT JOIN favourites
  ON favourites.user_id = shoppers.user_id
