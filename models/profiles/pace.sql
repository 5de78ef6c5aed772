/* The half-lives and windows of all tables, in days, as chosen on the shop's history, unless the ranking file names them. One row. */
MODEL (
  kind FULL,
  grain pace_days,
  audits (
    one_row,
    not_null(columns := (
      pace_days, half_life_days, behaviour_half_life_days, lasting_half_life_days, co_purchase_days, popularity_days,
      shoppers_half_life_days, regularisation
    )),
    forall(criteria := (
      pace_days > 0 AND half_life_days > 0 AND behaviour_half_life_days > 0 AND co_purchase_days > 0
      AND popularity_days > 0 AND shoppers_half_life_days > 0 AND regularisation > 0
    ))
  )
);

WITH chosen AS (
  SELECT
    COALESCE(
      @VAR('pace_days')::DOUBLE,
      MAX(trials.value) FILTER(WHERE trials.parameter = 'pace_days')
    ) AS pace_days,
    COALESCE(
      @VAR('co_purchase_days')::DOUBLE,
      MAX(trials.value) FILTER(WHERE trials.parameter = 'co_purchase_days')
    ) AS co_purchase_days,
    COALESCE(
      @VAR('popularity_days')::DOUBLE,
      MAX(trials.value) FILTER(WHERE trials.parameter = 'popularity_days')
    ) AS popularity_days,
    MAX(trials.value) FILTER(WHERE trials.parameter = 'shoppers_half_life_days') AS shoppers_half_life_days,
    MAX(trials.value) FILTER(WHERE trials.parameter = 'regularisation') AS regularisation
  FROM profiles.pace_trials AS trials
  WHERE
    trials.chosen
)
SELECT
  chosen.pace_days, /* half-life of what shoppers take in this shop, chosen in profiles.pace_trials */
  COALESCE(@VAR('half_life_days')::DOUBLE, 6 * chosen.pace_days) AS half_life_days, /* half-life of vectors, words and interests, and of the histories that EASE and user-kNN compare */
  COALESCE(@VAR('behaviour_half_life_days')::DOUBLE, chosen.pace_days) AS behaviour_half_life_days, /* half-life of the items from which co-purchases start */
  4 * chosen.pace_days AS lasting_half_life_days, /* half-life of the same items for EASE */
  chosen.co_purchase_days, /* days before the latest interaction that count in co-purchases, chosen in profiles.pace_trials */
  chosen.popularity_days, /* days before the latest interaction that count in recent popularity, chosen in profiles.pace_trials */
  chosen.shoppers_half_life_days, /* half-life of what similar shoppers took, chosen in profiles.pace_trials */
  chosen.regularisation /* of EASE, chosen in profiles.pace_trials */
FROM chosen
