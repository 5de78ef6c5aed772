-- How often do shoppers open what is served, by release, ranking, tier and scenario?
WITH shown AS (
    SELECT
        recommendations.*,
        outcomes.* EXCLUDE (recommendation_id, item_id),
        -- Where the shop sends no impressions, what was served counts.
        CASE WHEN BOOL_OR(outcomes.was_seen) OVER () THEN 'impressions' ELSE 'served' END AS divided_by
    FROM served.recommendations AS recommendations
    LEFT JOIN served.outcomes AS outcomes ON outcomes.recommendation_id = recommendations.recommendation_id
        AND outcomes.item_id = recommendations.item_id
)
SELECT
    shown.release,
    shown.ranking,
    shown.tier,
    shown.scenario,
    COUNT(DISTINCT shown.recommendation_id) AS answers,
    COUNT(shown.item_id) AS served,
    COUNT(*) FILTER (shown.was_seen) AS impressions,
    COUNT(*) FILTER (shown.was_clicked) AS clicks,
    COUNT(*) FILTER (shown.went_into_cart) AS carts,
    COUNT(*) FILTER (shown.was_bought) AS purchases,
    ROUND(CASE shown.divided_by
        WHEN 'served' THEN clicks / NULLIF(served, 0)
        ELSE COUNT(*) FILTER (shown.was_clicked AND shown.was_seen) / NULLIF(impressions, 0)
    END, 4) AS click_through,
    shown.divided_by
FROM shown
GROUP BY shown.release, shown.ranking, shown.tier, shown.scenario, shown.divided_by
ORDER BY answers DESC, shown.release, shown.tier
