-- How often do shoppers open what the service shows, by release, ranking, tier and scenario?
WITH outcomes AS (
    SELECT
        events.query_id,
        events.item_id,
        BOOL_OR(events.kind = 'impression') AS was_seen,
        BOOL_OR(events.kind IN ('click', 'view')) AS was_clicked,
        BOOL_OR(events.kind = 'cart') AS went_into_cart,
        BOOL_OR(events.kind IN ('purchase', 'order')) AS was_bought
    FROM served.events AS events
    WHERE events.query_id IS NOT NULL AND events.item_id IS NOT NULL
    GROUP BY events.query_id, events.item_id
)
SELECT
    recommendations.release,
    recommendations.ranking,
    recommendations.tier,
    recommendations.scenario,
    COUNT(DISTINCT recommendations.recommendation_id) AS answers,
    COUNT(recommendations.item_id) AS served,
    COUNT(*) FILTER (outcomes.was_seen) AS impressions,
    COUNT(*) FILTER (outcomes.was_clicked) AS clicks,
    COUNT(*) FILTER (outcomes.went_into_cart) AS carts,
    COUNT(*) FILTER (outcomes.was_bought) AS purchases,
    -- Where the shop sends no impressions, what was served counts.
    ROUND(clicks / COALESCE(NULLIF(impressions, 0), served), 4) AS click_through
FROM served.recommendations AS recommendations
LEFT JOIN outcomes ON outcomes.query_id = recommendations.recommendation_id
    AND outcomes.item_id = recommendations.item_id
GROUP BY recommendations.release, recommendations.ranking, recommendations.tier, recommendations.scenario
ORDER BY answers DESC, recommendations.release, recommendations.tier
