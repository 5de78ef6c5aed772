/* What several suites measure, run once on the connection before their queries. `has_markup(text)` and
   `is_refusal(text)` come beside these from the package, which judges by the same patterns. */

create or replace temp macro l2_norm(vector) as sqrt(list_sum(list_transform(vector, lambda x: x::double * x)));

create or replace temp macro non_finite(vector) as len(list_filter(vector, lambda x: x is null or not isfinite(x)));
