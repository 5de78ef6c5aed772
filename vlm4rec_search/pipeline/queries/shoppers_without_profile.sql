-- Who has no profile, and why?
WITH seen AS (
    SELECT judged.user_id, judged.row_number, judged.reason FROM staging.judged_interactions AS judged
    UNION ALL
    SELECT judged.user_id, NULL, NULL FROM staging.judged_users AS judged
), shoppers AS (
    SELECT
        seen.user_id,
        COUNT(seen.row_number) AS interactions,
        COUNT(seen.reason) AS refused,
        MODE(seen.reason) AS refused_because
    FROM seen
    WHERE seen.user_id IS NOT NULL
    GROUP BY seen.user_id
), weights AS (
    SELECT weights.user_id, MAX(weights.weight) AS largest FROM profiles.profile_weights AS weights GROUP BY ALL
)
SELECT
    CASE
        WHEN shoppers.interactions = 0 THEN 'in the users file only'
        WHEN shoppers.refused = shoppers.interactions THEN 'all interactions refused: ' || shoppers.refused_because
        WHEN weights.user_id IS NULL THEN 'all interactions are after the moment of the tables'
        WHEN weights.largest <= 0 THEN 'no interaction that counts as a like'
        ELSE 'likes and dislikes cancel out'
    END AS reason,
    COUNT(*) AS shoppers,
    LIST(shoppers.user_id ORDER BY shoppers.user_id)[:5] AS examples
FROM shoppers
LEFT JOIN weights ON weights.user_id = shoppers.user_id
WHERE shoppers.user_id NOT IN (SELECT profiles.user_id FROM profiles.user_profiles AS profiles)
GROUP BY reason
ORDER BY shoppers DESC, reason
