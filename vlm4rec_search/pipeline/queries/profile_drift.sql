-- How far do profiles and top lists of the sampled shoppers drift from release to release?
WITH ordered AS (
    SELECT
        releases.release,
        releases.recorded_at,
        releases.encoder,
        LAG(releases.release) OVER (PARTITION BY releases.url ORDER BY releases.recorded_at) AS before,
        LAG(releases.encoder) OVER (PARTITION BY releases.url ORDER BY releases.recorded_at) AS encoder_before
    FROM releases.releases AS releases
    WHERE releases.release IN (SELECT shoppers.release FROM shown.shoppers AS shoppers)
), lists AS (
    SELECT lists.release, lists.user_id, LIST(lists.item_id) AS items FROM shown.top_lists AS lists GROUP BY ALL
)
SELECT
    ordered.release,
    ordered.recorded_at,
    COUNT(*) AS shoppers,
    COUNT(old.user_id) AS known_before,
    ROUND(AVG(CASE WHEN ordered.encoder = ordered.encoder_before
        THEN LIST_INNER_PRODUCT(new.vector, old.vector)::DOUBLE END), 4) AS mean_cosine_of_profiles,
    ROUND(MIN(CASE WHEN ordered.encoder = ordered.encoder_before
        THEN LIST_INNER_PRODUCT(new.vector, old.vector)::DOUBLE END), 4) AS smallest_cosine,
    ROUND(AVG(CASE WHEN old.user_id IS NOT NULL
        THEN LEN(LIST_INTERSECT(now.items, earlier.items)) / GREATEST(LEN(now.items), LEN(earlier.items)) END), 3)
        AS same_hits
FROM ordered
INNER JOIN shown.shoppers AS new ON new.release = ordered.release
LEFT JOIN shown.shoppers AS old ON old.release = ordered.before AND old.user_id = new.user_id
LEFT JOIN lists AS now ON now.release = ordered.release AND now.user_id = new.user_id
LEFT JOIN lists AS earlier ON earlier.release = ordered.before AND earlier.user_id = new.user_id
GROUP BY ordered.release, ordered.recorded_at
ORDER BY ordered.recorded_at
