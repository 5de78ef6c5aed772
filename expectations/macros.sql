/* DuckDB macros for the queries of the suites. The package adds `has_markup(text)` and `is_refusal(text)`, with the same
   patterns that staging and the validation of captions use (vlm4rec_search/common/patterns.py). */

create or replace temp macro l2_norm(vector) as sqrt(list_sum(list_transform(vector, lambda x: x::double * x)));

create or replace temp macro non_finite(vector) as len(list_filter(vector, lambda x: x is null or not isfinite(x)));
