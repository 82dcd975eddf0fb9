"""The keys of a LiteLLM config by name: which ones LiteLLM, its providers or we know, and which one a slip stands for.

A list, because LiteLLM takes seconds to import; a test holds it against the installed one. A key that is not on it may
be a provider's own all the same, and goes through: only one that is a slip away from a known key is taken for that.
"""

from __future__ import annotations

import functools
import math
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of litellm_params: what LiteLLM's types name, what OpenAI's chat takes, and what other providers and servers take.
KNOWN_PARAMS = _words("""
    model api_base base_url api_key api_version api_type custom_llm_provider organization project timeout stream_timeout
    request_timeout max_retries num_retries cooldown_time weight order rpm tpm max_parallel_requests
    litellm_credential_name litellm_system_prompt configurable_clientside_auth_params use_in_pass_through
    use_litellm_proxy use_chat_completions_api use_responses_api merge_reasoning_content_in_choices model_info
    base_model tags tag_regex max_budget budget_duration max_file_size_mb mock_response mock_timeout mock_delay
    mock_tool_calls
    auto_router_config auto_router_config_path auto_router_default_model auto_router_embedding_model
    complexity_router_config complexity_router_default_model s3_bucket_name s3_encryption_key_id gcs_bucket_name
    gcs_path_service_account vector_store_id vector_store_ids vector_bucket_name index_name embedding_model
    milvus_text_field drop_params additional_drop_params allowed_openai_params cache_control_injection_points
    provider_specific_header supports_system_message ensure_alternating_roles user_continue_message
    assistant_continue_message roles final_prompt_value bos_token eos_token initial_prompt_value hf_model_name azure
    headers extra_headers default_headers extra_body extra_query ssl_verify ssl_certificate client_certificate proxy
    http_client client fallbacks default_fallbacks context_window_fallbacks context_window_fallback_dict
    content_policy_fallbacks max_fallbacks fallback_depth retry_policy retry_strategy allowed_fails
    allowed_fails_policy priority force_timeout guardrails prompt_id prompt_label prompt_variables prompt_version
    search_tool_name ttl turn_off_message_logging verbose text_completion use_client shared_session secret_fields self
    enable_json_schema_validation disable_add_transform_inline_image_block model_file_id_mapping model_config model_list
    allowed_model_region region_name tenant_id client_id client_secret complete_response deployment_id id no-log
    metadata litellm_metadata litellm_call_id litellm_trace_id litellm_session_id litellm_logging_obj
    litellm_request_debug litellm_proxy_rate_limit_response litellm_disabled_callbacks logger_fn proxy_server_request
    preset_cache_key cache cache_key caching caching_groups acompletion aimg_generation atext_completion
    fastest_response callbacks success_callback failure_callback enable_preview_features

    aws_access_key_id aws_secret_access_key aws_session_token aws_region_name aws_session_name aws_profile_name
    aws_role_name aws_web_identity_token aws_sts_endpoint aws_external_id aws_bedrock_runtime_endpoint
    aws_bedrock_inference_profile aws_polly_endpoint vertex_project vertex_location vertex_credentials
    vertex_ai_project vertex_ai_location vertex_ai_credentials azure_ad_token azure_ad_token_provider azure_username
    azure_password azure_scope azure_deployment azure_endpoint watsonx_region_name watsonx_project watsonx_space_id
    space_id project_id deployment_url token

    messages functions function_call temperature top_p n stream stream_options stop max_tokens max_completion_tokens
    modalities prediction audio presence_penalty frequency_penalty logit_bias user response_format seed tools
    tool_choice parallel_tool_calls logprobs top_logprobs reasoning_effort reasoning verbosity service_tier store
    safety_identifier prompt_cache_key prompt_cache_retention prompt_cache_options web_search_options thinking
    context_management include instructions previous_response_id truncation background text output_config
    reasoning_split

    top_k top_a top_n min_p min_tokens max_new_tokens min_new_tokens min_length max_length length_penalty
    repetition_penalty typical_p tfs_z mirostat mirostat_eta mirostat_tau repeat_last_n repeat_penalty num_ctx
    num_predict num_keep num_gpu num_batch num_thread keep_alive think thinking_budget thinking_config thinking_level
    format options template system suffix raw stop_sequences include_stop_sequences stop_token_ids ignore_eos
    skip_special_tokens use_beam_search best_of echo guided_json guided_regex guided_choice guided_grammar
    guided_decoding_backend chat_template chat_template_kwargs add_generation_prompt documents safe_mode safe_prompt
    safety_mode safety_settings random_seed decoding_method truncate_input_tokens return_options profanity_check
    moderations
    max_input_tokens max_output_tokens cache_control speed inference_geo betas models route transforms provider plugins
    usage include_reasoning user_id return_images return_related_questions return_citations search_domain_filter
    search_recency_filter search_mode search_parameters reasoning_format enable_thinking max_turns requestMetadata
    performanceConfig guardrailConfig response_schema response_mime_type cached_content labels

    arize_api_key arize_space_id arize_space_key humanloop_api_key langfuse_host langfuse_prompt_version
    langfuse_public_key langfuse_secret langfuse_secret_key langsmith_api_key langsmith_base_url langsmith_project
    langsmith_sampling_rate langsmith_tenant_id posthog_api_key posthog_api_url wandb_api_key weave_project_id

    input_cost_per_token output_cost_per_token input_cost_per_second output_cost_per_second input_cost_per_pixel
    output_cost_per_pixel input_cost_per_token_flex input_cost_per_token_priority cache_creation_input_token_cost
    cache_creation_input_token_cost_above_1hr cache_creation_input_token_cost_above_200k_tokens
    cache_creation_input_audio_token_cost cache_read_input_token_cost cache_read_input_token_cost_flex
    cache_read_input_token_cost_priority cache_read_input_token_cost_above_200k_tokens
    cache_read_input_audio_token_cost input_cost_per_character input_cost_per_character_above_128k_tokens
    input_cost_per_audio_token input_cost_per_token_cache_hit input_cost_per_token_above_128k_tokens
    input_cost_per_token_above_200k_tokens input_cost_per_query input_cost_per_image
    input_cost_per_image_above_128k_tokens input_cost_per_audio_per_second
    input_cost_per_audio_per_second_above_128k_tokens input_cost_per_video_per_second
    input_cost_per_video_per_second_above_128k_tokens input_cost_per_video_per_second_above_15s_interval
    input_cost_per_video_per_second_above_8s_interval input_cost_per_token_batches output_cost_per_token_batches
    output_cost_per_token_flex output_cost_per_token_priority output_cost_per_character output_cost_per_audio_token
    output_cost_per_token_above_128k_tokens output_cost_per_token_above_200k_tokens
    output_cost_per_character_above_128k_tokens output_cost_per_image output_cost_per_image_token
    output_cost_per_reasoning_token output_cost_per_video_per_second output_cost_per_audio_per_second
    search_context_cost_per_query citation_cost_per_token tiered_pricing
""")
# Of router_settings: LiteLLM's, read here or not.
KNOWN_ROUTER_SETTINGS = _words("""
    model_list assistants_config search_tools guardrail_list redis_url redis_host redis_port redis_password redis_db
    cache_responses cache_kwargs caching_groups client_ttl polling_interval default_priority num_retries max_fallbacks
    timeout stream_timeout default_litellm_params default_max_parallel_requests set_verbose debug_level
    default_fallbacks fallbacks context_window_fallbacks content_policy_fallbacks model_group_alias
    enable_pre_call_checks enable_tag_filtering tag_filtering_match_any retry_after retry_policy
    model_group_retry_policy allowed_fails allowed_fails_policy cooldown_time disable_cooldowns routing_strategy
    optional_pre_call_checks routing_strategy_args provider_budget_config alerting_config router_general_settings
    deployment_affinity_ttl_seconds ignore_invalid_deployments
""")
# Of litellm_settings: LiteLLM's own variables, which these set, and what its proxy reads there.
KNOWN_LITELLM_SETTINGS = _words("""
    aclient_session add_function_to_prompt add_user_information_to_llm_headers agents ai21_key aiohttp_trust_env
    aleph_alpha_key allow_dynamic_callback_disabling allowed_fails amazon_nova_api_key anthropic_key api_base api_key
    api_version argilla_batch_size argilla_transformation_object audit_log_callbacks aws_sqs_callback_params azure_key
    banned_keywords_list baseten_key blocked_user_list budget_duration bytez_key cache cache_params caching
    callback_settings callbacks clarifai_key client_session cloudflare_api_key cohere_key cometapi_key
    content_policy_fallbacks context_window_fallbacks cooldown_time cost_discount_config cost_margin_config
    credential_list custom_prometheus_metadata_labels custom_prometheus_tags custom_prompt_dict custom_provider_map
    databricks_key datadog_llm_observability_params datadog_params datadog_use_v1 datarobot_key default_fallbacks
    default_in_memory_ttl default_internal_user_params default_key_generate_params default_max_internal_user_budget
    default_redis_batch_cache_expiry default_redis_ttl default_soft_budget default_team_params default_team_settings
    default_vector_store_config default_vertex_config disable_add_prefix_to_prompt
    disable_add_transform_inline_image_block disable_add_user_agent_to_request_tags disable_aiohttp_transport
    disable_aiohttp_trust_env disable_anthropic_gemini_context_caching_transform disable_copilot_system_to_assistant
    disable_end_user_cost_tracking disable_end_user_cost_tracking_prometheus_only disable_hf_tokenizer_download
    disable_stop_sequence_limit disable_streaming_logging disable_token_counter drop_params dynamodb_table_name
    enable_azure_ad_token_refresh enable_caching_on_provider_specific_optional_params
    enable_end_user_cost_tracking_prometheus_only enable_json_schema_validation enable_key_alias_format_validation
    enable_loadbalancing_on_batch_endpoints enable_preview_features extra_spend_tag_headers failure_callback fallbacks
    filter_invalid_headers force_ipv4 forward_traceparent_to_llm_provider gcs_pub_sub_use_v1 generic_api_use_v1
    generic_logger_headers gigachat_key global_bitbucket_config global_disable_no_log_param global_gitlab_config
    global_prompt_directory google_moderation_confidence_threshold gradient_ai_api_key groq_key guardrails headers
    heroku_key huggingface_key include_cost_in_streaming_usage infinity_key input_callback internal_user_budget_duration
    json_logs key_generation_settings langfuse_default_tags langsmith_batch_size lemonade_key llama_api_key
    llamaguard_model_name llamaguard_unsafe_content_categories llm_guard_mode log_raw_request_response maritalk_key
    max_budget max_end_user_budget max_end_user_budget_id max_fallbacks max_internal_user_budget max_parallel_requests
    max_tokens max_ui_session_budget max_user_budget mcp_aliases mcp_semantic_tool_filter model_alias_map
    model_cost_map_url model_group_alias model_group_settings modify_params nebius_key nlp_cloud_key novita_api_key
    num_retries num_retries_per_request ollama_key openai_key openai_like_key openai_moderations_model_name
    openrouter_key organization output_parse_pii ovhcloud_key post_call_rules pre_call_rules predibase_key
    predibase_tenant_id presidio_ad_hoc_recognizers priority_reservation priority_reservation_settings project
    prometheus_emit_stream_label prometheus_initialize_budget_metrics prometheus_metrics_config prompts proxy_auth
    public_agent_groups public_mcp_servers public_model_groups public_model_groups_links reasoning_auto_summary
    redact_messages_in_exceptions redact_user_api_key_info replicate_key request_timeout
    require_auth_for_metrics_endpoint responses return_response_headers s3_callback_params safe_memory_mode
    sap_service_key service_callback set_verbose snowflake_key ssl_certificate ssl_ecdh_curve ssl_security_level
    ssl_verify standard_logging_payload_excluded_fields store_audit_logs success_callback suppress_debug_info
    tag_budget_config telemetry togetherai_api_key turn_off_message_logging upperbound_key_generate_params
    use_aiohttp_transport use_chat_completions_url_for_anthropic_messages use_client use_litellm_proxy
    user_url_allowed_hosts user_url_validation vector_store_registry vercel_ai_gateway_key vertex_ai_safety_settings
    vertex_location vertex_project wandb_key
""")
# Providers for which LiteLLM takes its general `api_base` and `api_key` (litellm_settings) where a deployment has none.
# The others have an address of their own. Measured, by what each of them asked.
TAKE_THE_GENERAL_ADDRESS = _words("""
    openai azure azure_ai anthropic ollama ollama_chat gemini cohere cohere_chat openrouter databricks custom_openai
    litellm_proxy text-completion-openai hosted_vllm lm_studio
""")

_SHORTEST = 4  # a key of fewer letters is a slip away from too many
_LONG = 10  # in a key as long as this there may be two slips


@functools.lru_cache(maxsize=1024)
def meant(key: str, known: frozenset[str] = KNOWN_PARAMS) -> str | None:
    """The known key that this one is a slip away from: a letter too many, missing, wrong or in its neighbour's place,
    another case, a hyphen. None for a known key, and for one that is like none."""
    if key in known or len(key) < _SHORTEST:
        return None
    plain = key.strip().lower().replace("-", "_").replace(" ", "_")
    if plain in known:
        return plain
    most = 2 if len(plain) >= _LONG else 1
    like = [word for word in known if len(word) >= _SHORTEST and abs(len(word) - len(plain)) <= most]
    slips, word = min(((_slips(plain, word, most), word) for word in like), default=(most + 1, ""))
    return word if slips <= most else None


def _slips(one: str, other: str, most: int) -> int:
    """How many slips are between two words; more than `most` where it is clear that there are."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, there in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != there))
            if earlier and j > 1 and letter == other[j - 2] and one[i - 2] == there:
                cost = min(cost, earlier[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return row[-1]


# Of litellm_params: those whose values are numbers, and those that are true or false. An environment variable holds
# text, and providers refuse "0.2" for a number.
_INTEGERS = _words("""
    max_tokens max_completion_tokens seed random_seed n top_k top_n top_logprobs min_tokens max_new_tokens
    min_new_tokens min_length max_length mirostat repeat_last_n num_ctx num_predict num_keep num_gpu num_batch
    num_thread thinking_budget best_of truncate_input_tokens max_turns max_input_tokens max_output_tokens
""")
_NUMBERS = _INTEGERS | _words("""
    temperature top_p top_a min_p presence_penalty frequency_penalty length_penalty repetition_penalty repeat_penalty
    typical_p tfs_z mirostat_eta mirostat_tau
""")
_SWITCHES = _words("""
    think parallel_tool_calls logprobs store drop_params merge_reasoning_content_in_choices supports_system_message
    ensure_alternating_roles ignore_eos skip_special_tokens use_beam_search echo include_stop_sequences
    include_stop_str_in_output add_generation_prompt safe_mode safe_prompt return_options moderations
    include_reasoning return_images return_related_questions return_citations enable_thinking reasoning_split raw
    use_litellm_proxy use_chat_completions_api use_responses_api turn_off_message_logging
""")
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def typed(key: str, value: Any) -> Any:
    """A value of litellm_params as what the key is: text that says a number or a truth becomes that, and what says
    neither stays as it is."""
    if not isinstance(value, str):
        return value
    if key in _SWITCHES:
        return _TRUTHS.get(value.strip().lower(), value)
    if key not in _NUMBERS:
        return value
    for kind in (int, float) if key in _INTEGERS else (float,):
        try:
            number = kind(value)
        except ValueError:
            continue
        return number if math.isfinite(number) else value
    return value
