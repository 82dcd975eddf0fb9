"""The keys of a LiteLLM config, and what becomes of each here: one table for each section.

The lists are kept here because LiteLLM takes seconds to import; a test holds them against the installed version. A key
that is in no table may be a provider's own, so it is passed on. Only a key that is a slip away from a known one is
taken for a misspelling (`meant`).

Long, because nearly all of it is the tables.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

Kind = Literal["any", "text", "integer", "number", "switch", "price"]


class Use(Enum):
    """What becomes of a key."""

    HONOURED = "is read here, and does what it does in LiteLLM"
    TRANSLATED = "is read here as the key or the section that `Key.belongs` names"
    PASSED_ON = "goes to LiteLLM and the provider as it is"
    NO_EFFECT = "is left out; `Key.belongs` says where the same is said here, if anywhere"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section.

    Attributes:
        use: what becomes of it.
        belongs: where the config or a request says the same in konstruct's own way; empty where nothing does.
        kind: what its value is. An environment variable holds text, and providers refuse "0.2" for a number: `typed`
            turns the text into the number or the switch.
        is_shown: whether its value may be shown although it is written as text: of a text any, of a number or a switch
            one that reads as such.
        is_suggested: whether an unknown key that is a slip away is taken for this one.
    """

    use: Use
    belongs: str = ""
    kind: Kind = "any"
    is_shown: bool = False
    is_suggested: bool = True


def _keys(
    use: Use, names: str, belongs: str = "", *, kind: Kind = "any", shown: bool = False, suggested: bool = True
) -> dict[str, Key]:
    return dict.fromkeys(names.split(), Key(use, belongs, kind, shown, suggested))


_HONOURED, _TRANSLATED, _PASSED_ON, _NO_EFFECT = Use

# The top level of the file. What has no effect is for LiteLLM's proxy.
SECTIONS: Mapping[str, Key] = {
    **_keys(_HONOURED, "model_list router_settings litellm_settings environment_variables credential_list konstruct"),
    **_keys(
        _NO_EFFECT,
        """
        general_settings assistant_settings callback_settings files_settings finetune_settings guardrails mcp_servers
        vector_store_registry
        """,
    ),
}

# Of an entry of model_list. LiteLLM's Router takes `rpm` and `tpm` beside the params too.
ENTRY: Mapping[str, Key] = _keys(_HONOURED, "model_name litellm_params model_info")

LITELLM_PARAMS: Mapping[str, Key] = {
    **_keys(_HONOURED, "model", kind="text", shown=True),
    **_keys(_HONOURED, "api_base api_key"),
    **_keys(_HONOURED, "order num_retries rpm tpm max_parallel_requests", kind="integer", shown=True),
    **_keys(_HONOURED, "timeout cooldown_time weight", kind="number", shown=True),
    **_keys(_TRANSLATED, "base_url", "api_base"),
    **_keys(_TRANSLATED, "max_retries", "num_retries", kind="integer", shown=True),
    **_keys(_TRANSLATED, "litellm_credential_name", "credential_list"),
    # Prices: by these the cost of a call is computed.
    **_keys(
        _HONOURED,
        """
        input_cost_per_token output_cost_per_token input_cost_per_token_flex input_cost_per_token_priority
        input_cost_per_token_above_128k_tokens input_cost_per_token_above_200k_tokens output_cost_per_token_flex
        output_cost_per_token_priority output_cost_per_token_above_128k_tokens output_cost_per_token_above_200k_tokens
        output_cost_per_reasoning_token cache_creation_input_token_cost cache_creation_input_token_cost_above_1hr
        cache_creation_input_token_cost_above_200k_tokens cache_read_input_token_cost cache_read_input_token_cost_flex
        cache_read_input_token_cost_priority cache_read_input_token_cost_above_200k_tokens
        """,
        kind="price",
    ),
    # Prices of what no chat completion is billed for.
    **_keys(
        _NO_EFFECT,
        """
        input_cost_per_second output_cost_per_second input_cost_per_pixel output_cost_per_pixel
        cache_creation_input_audio_token_cost cache_read_input_audio_token_cost input_cost_per_character
        input_cost_per_character_above_128k_tokens input_cost_per_audio_token input_cost_per_token_cache_hit
        input_cost_per_query input_cost_per_image input_cost_per_image_above_128k_tokens
        input_cost_per_audio_per_second input_cost_per_audio_per_second_above_128k_tokens
        input_cost_per_video_per_second input_cost_per_video_per_second_above_128k_tokens
        input_cost_per_video_per_second_above_15s_interval input_cost_per_video_per_second_above_8s_interval
        input_cost_per_token_batches output_cost_per_token_batches output_cost_per_character
        output_cost_per_character_above_128k_tokens output_cost_per_audio_token output_cost_per_image
        output_cost_per_image_token output_cost_per_video_per_second output_cost_per_audio_per_second
        search_context_cost_per_query citation_cost_per_token
        """,
        kind="price",
    ),
    **_keys(_PASSED_ON, "tiered_pricing"),
    # No effect, because the request says what is asked.
    **_keys(
        _NO_EFFECT,
        "stream stream_options stream_timeout messages functions function_call tools tool_choice response_format user",
        "the request",
    ),
    **_keys(_NO_EFFECT, "n", "the request", kind="integer"),
    **_keys(_NO_EFFECT, "prompt", "the request", suggested=False),
    # No effect, because routing is the same for all deployments and says who is asked after whom.
    **_keys(
        _NO_EFFECT,
        """
        fallbacks default_fallbacks context_window_fallbacks context_window_fallback_dict content_policy_fallbacks
        allowed_fails allowed_fails_policy retry_policy retry_strategy priority request_timeout force_timeout
        """,
        "router_settings",
    ),
    **_keys(_NO_EFFECT, "tags tag_regex model_list model_info deployment_id id", "model_list"),
    **_keys(_NO_EFFECT, "model_group specific_deployment", "model_list", suggested=False),
    **_keys(_NO_EFFECT, "mode", "model_info", suggested=False),
    # No effect, because the call is on a tenant's account. LiteLLM's limits are compared with our budgets
    # (`litellm_budgets`), and said where no budget of ours holds them.
    **_keys(_NO_EFFECT, "metadata litellm_metadata", "konstruct.tenants"),
    **_keys(_TRANSLATED, "max_budget budget_duration", "konstruct.budgets"),
    # No effect, because it would answer without asking a provider, or concerns how LiteLLM is called.
    **_keys(
        _NO_EFFECT,
        """
        mock_response mock_tool_calls mock_timeout mock_delay caching cache cache_key preset_cache_key ttl acompletion
        atext_completion text_completion litellm_call_id litellm_trace_id litellm_logging_obj logger_fn verbose
        callbacks success_callback failure_callback proxy_server_request secret_fields client use_client
        enable_preview_features fastest_response use_in_pass_through configurable_clientside_auth_params
        max_file_size_mb litellm_request_debug
        """,
    ),
    **_keys(_NO_EFFECT, "mock_testing_fallbacks", suggested=False),
    # No effect, because the proxy or a callback would act on it: LiteLLM itself takes these, and does nothing.
    **_keys(
        _NO_EFFECT,
        """
        guardrails prompt_id prompt_label prompt_variables prompt_version search_tool_name litellm_session_id no-log
        litellm_disabled_callbacks langfuse_host langfuse_prompt_version langfuse_public_key langfuse_secret
        langfuse_secret_key langsmith_api_key langsmith_base_url langsmith_project langsmith_tenant_id
        langsmith_sampling_rate arize_api_key arize_space_id arize_space_key humanloop_api_key posthog_api_key
        posthog_api_url weave_project_id
        """,
    ),
    **_keys(_NO_EFFECT, "turn_off_message_logging", kind="switch"),
    # Passed on: where and how LiteLLM calls a provider, and who logs in there.
    **_keys(_PASSED_ON, "api_version custom_llm_provider region_name base_model", kind="text", shown=True),
    **_keys(_PASSED_ON, "aws_region_name vertex_location", kind="text", shown=True),
    **_keys(
        _PASSED_ON,
        """
        api_type organization project litellm_system_prompt auto_router_config auto_router_config_path
        auto_router_default_model auto_router_embedding_model complexity_router_config
        complexity_router_default_model s3_bucket_name s3_encryption_key_id gcs_bucket_name gcs_path_service_account
        vector_store_id vector_store_ids vector_bucket_name index_name embedding_model milvus_text_field
        additional_drop_params allowed_openai_params cache_control_injection_points provider_specific_header
        user_continue_message assistant_continue_message roles final_prompt_value bos_token eos_token
        initial_prompt_value hf_model_name azure headers extra_headers default_headers extra_body extra_query
        ssl_verify ssl_certificate client_certificate proxy http_client max_fallbacks fallback_depth shared_session self
        enable_json_schema_validation disable_add_transform_inline_image_block model_file_id_mapping model_config
        allowed_model_region tenant_id client_id client_secret complete_response litellm_proxy_rate_limit_response
        caching_groups aimg_generation

        aws_access_key_id aws_secret_access_key aws_session_token aws_session_name aws_profile_name aws_role_name
        aws_web_identity_token aws_sts_endpoint aws_external_id aws_bedrock_runtime_endpoint
        aws_bedrock_inference_profile aws_polly_endpoint vertex_project vertex_credentials vertex_ai_project
        vertex_ai_location vertex_ai_credentials azure_ad_token azure_ad_token_provider azure_username azure_password
        azure_scope azure_deployment azure_endpoint watsonx_region_name watsonx_project watsonx_space_id space_id
        project_id deployment_url token wandb_api_key
        """,
    ),
    **_keys(_PASSED_ON, "drop_params", kind="switch", shown=True),
    **_keys(
        _PASSED_ON,
        """
        merge_reasoning_content_in_choices supports_system_message ensure_alternating_roles use_litellm_proxy
        use_chat_completions_api use_responses_api
        """,
        kind="switch",
    ),
    # Passed on: parameters of the completion, OpenAI's first, then those of other providers and servers.
    **_keys(_PASSED_ON, "max_tokens max_completion_tokens", kind="integer", shown=True),
    **_keys(_PASSED_ON, "max_input_tokens max_output_tokens", kind="integer", shown=True),
    **_keys(_PASSED_ON, "temperature top_p", kind="number", shown=True),
    **_keys(_PASSED_ON, "reasoning_effort", kind="text", shown=True),
    **_keys(
        _PASSED_ON,
        """
        seed random_seed top_k top_n top_logprobs min_tokens max_new_tokens min_new_tokens min_length max_length
        mirostat repeat_last_n num_ctx num_predict num_keep num_gpu num_batch num_thread thinking_budget best_of
        truncate_input_tokens max_turns
        """,
        kind="integer",
    ),
    **_keys(
        _PASSED_ON,
        """
        top_a min_p presence_penalty frequency_penalty length_penalty repetition_penalty repeat_penalty typical_p tfs_z
        mirostat_eta mirostat_tau
        """,
        kind="number",
    ),
    **_keys(
        _PASSED_ON,
        """
        think parallel_tool_calls logprobs store ignore_eos skip_special_tokens use_beam_search echo
        include_stop_sequences add_generation_prompt safe_mode safe_prompt return_options moderations include_reasoning
        return_images return_related_questions return_citations enable_thinking reasoning_split raw
        """,
        kind="switch",
    ),
    **_keys(_PASSED_ON, "include_stop_str_in_output", kind="switch", suggested=False),
    **_keys(
        _PASSED_ON,
        """
        stop modalities prediction audio logit_bias reasoning verbosity service_tier safety_identifier prompt_cache_key
        prompt_cache_retention prompt_cache_options web_search_options thinking context_management include instructions
        previous_response_id truncation background text output_config

        keep_alive thinking_config thinking_level format options template system suffix stop_sequences stop_token_ids
        guided_json guided_regex guided_choice guided_grammar guided_decoding_backend chat_template
        chat_template_kwargs documents safety_mode safety_settings decoding_method profanity_check cache_control speed
        inference_geo betas models route transforms provider plugins usage user_id search_domain_filter
        search_recency_filter search_mode search_parameters reasoning_format requestMetadata performanceConfig
        guardrailConfig response_schema response_mime_type cached_content labels
        """,
    ),
}

# What is read of it; the rest are notes, for LiteLLM's proxy or for people.
MODEL_INFO: Mapping[str, Key] = {
    **_keys(_HONOURED, "mode base_model", kind="text", shown=True),
    **_keys(_HONOURED, "max_input_tokens max_tokens max_output_tokens", kind="integer", shown=True),
    **_keys(
        _HONOURED,
        "supports_function_calling supports_vision supports_pdf_input supports_response_schema",
        kind="switch",
        shown=True,
    ),
    **_keys(_HONOURED, "input_cost_per_token output_cost_per_token", kind="price"),
    **_keys(_HONOURED, "supported_environments"),
}

ROUTER_SETTINGS: Mapping[str, Key] = {
    **_keys(
        _HONOURED,
        """
        num_retries timeout default_litellm_params default_max_parallel_requests default_fallbacks fallbacks
        context_window_fallbacks content_policy_fallbacks model_group_alias enable_pre_call_checks allowed_fails
        cooldown_time routing_strategy redis_url redis_host redis_port redis_password redis_db
        """,
    ),
    **_keys(_NO_EFFECT, "provider_budget_config", "konstruct.budgets"),
    **_keys(_NO_EFFECT, "model_list", "model_list"),
    **_keys(
        _NO_EFFECT,
        """
        assistants_config search_tools guardrail_list cache_responses cache_kwargs caching_groups client_ttl
        polling_interval default_priority max_fallbacks stream_timeout set_verbose debug_level enable_tag_filtering
        tag_filtering_match_any retry_after retry_policy model_group_retry_policy allowed_fails_policy
        disable_cooldowns optional_pre_call_checks routing_strategy_args alerting_config router_general_settings
        deployment_affinity_ttl_seconds ignore_invalid_deployments
        """,
    ),
}

# LiteLLM's own variables, which its section sets, and what its proxy reads there.
LITELLM_SETTINGS: Mapping[str, Key] = {
    **_keys(
        _HONOURED,
        """
        num_retries request_timeout default_fallbacks fallbacks context_window_fallbacks content_policy_fallbacks
        model_group_alias allowed_fails cooldown_time drop_params api_base api_key api_version organization ssl_verify
        vertex_project vertex_location cache_params
        """,
    ),
    # The key of one provider, beside the general `api_key`.
    **_keys(
        _TRANSLATED,
        """
        openai_key groq_key gigachat_key databricks_key azure_key anthropic_key replicate_key bytez_key cohere_key
        clarifai_key maritalk_key ai21_key ollama_key openrouter_key datarobot_key predibase_key huggingface_key
        vercel_ai_gateway_key baseten_key nebius_key
        """,
        "api_key",
    ),
    **_keys(
        _NO_EFFECT,
        """
        max_budget budget_duration max_end_user_budget max_internal_user_budget internal_user_budget_duration
        default_max_internal_user_budget max_user_budget max_ui_session_budget tag_budget_config
        """,
        "konstruct.budgets",
    ),
    **_keys(_NO_EFFECT, "credential_list", "credential_list"),
    **_keys(
        _NO_EFFECT,
        """
        aclient_session add_function_to_prompt add_user_information_to_llm_headers agents aiohttp_trust_env
        aleph_alpha_key allow_dynamic_callback_disabling amazon_nova_api_key argilla_batch_size
        argilla_transformation_object audit_log_callbacks aws_sqs_callback_params banned_keywords_list
        blocked_user_list cache caching callback_settings callbacks client_session
        cloudflare_api_key cometapi_key cost_discount_config cost_margin_config
        custom_prometheus_metadata_labels custom_prometheus_tags custom_prompt_dict custom_provider_map
        datadog_llm_observability_params datadog_params datadog_use_v1 default_in_memory_ttl
        default_internal_user_params default_key_generate_params default_redis_batch_cache_expiry
        default_redis_ttl default_soft_budget default_team_params default_team_settings
        default_vector_store_config default_vertex_config disable_add_prefix_to_prompt
        disable_add_transform_inline_image_block disable_add_user_agent_to_request_tags
        disable_aiohttp_transport disable_aiohttp_trust_env disable_anthropic_gemini_context_caching_transform
        disable_copilot_system_to_assistant disable_end_user_cost_tracking
        disable_end_user_cost_tracking_prometheus_only disable_hf_tokenizer_download disable_stop_sequence_limit
        disable_streaming_logging disable_token_counter dynamodb_table_name enable_azure_ad_token_refresh
        enable_caching_on_provider_specific_optional_params enable_end_user_cost_tracking_prometheus_only
        enable_json_schema_validation enable_key_alias_format_validation enable_loadbalancing_on_batch_endpoints
        enable_preview_features extra_spend_tag_headers failure_callback filter_invalid_headers force_ipv4
        forward_traceparent_to_llm_provider gcs_pub_sub_use_v1 generic_api_use_v1 generic_logger_headers
        global_bitbucket_config global_disable_no_log_param global_gitlab_config global_prompt_directory
        google_moderation_confidence_threshold gradient_ai_api_key guardrails headers heroku_key
        include_cost_in_streaming_usage infinity_key input_callback json_logs key_generation_settings
        langfuse_default_tags langsmith_batch_size lemonade_key llama_api_key llamaguard_model_name
        llamaguard_unsafe_content_categories llm_guard_mode log_raw_request_response max_end_user_budget_id
        max_fallbacks max_parallel_requests max_tokens mcp_aliases mcp_semantic_tool_filter model_alias_map
        model_cost_map_url model_group_settings modify_params nlp_cloud_key novita_api_key
        num_retries_per_request openai_like_key openai_moderations_model_name output_parse_pii ovhcloud_key
        post_call_rules pre_call_rules predibase_tenant_id presidio_ad_hoc_recognizers priority_reservation
        priority_reservation_settings project prometheus_emit_stream_label prometheus_initialize_budget_metrics
        prometheus_metrics_config prompts proxy_auth public_agent_groups public_mcp_servers public_model_groups
        public_model_groups_links reasoning_auto_summary redact_messages_in_exceptions redact_user_api_key_info
        require_auth_for_metrics_endpoint responses return_response_headers s3_callback_params safe_memory_mode
        sap_service_key service_callback set_verbose snowflake_key ssl_certificate ssl_ecdh_curve
        ssl_security_level standard_logging_payload_excluded_fields store_audit_logs success_callback
        suppress_debug_info telemetry togetherai_api_key turn_off_message_logging upperbound_key_generate_params
        use_aiohttp_transport use_chat_completions_url_for_anthropic_messages use_client use_litellm_proxy
        user_url_allowed_hosts user_url_validation vector_store_registry vertex_ai_safety_settings wandb_key
        """,
    ),
}

# Providers for which LiteLLM takes its general `api_base` and `api_key` (litellm_settings) where a deployment has none.
# The others have an address of their own. Measured, by what each of them asked.
TAKE_THE_GENERAL_ADDRESS = frozenset(
    """
    openai azure azure_ai anthropic ollama ollama_chat gemini cohere cohere_chat openrouter databricks custom_openai
    litellm_proxy text-completion-openai hosted_vllm lm_studio
    """.split()  # noqa: SIM905  a list of words is read more easily
)


def _named(table: Mapping[str, Key]) -> frozenset[str]:
    return frozenset(name for name, key in table.items() if key.is_suggested)


KNOWN_PARAMS = _named(LITELLM_PARAMS)
KNOWN_ROUTER_SETTINGS = _named(ROUTER_SETTINGS)
KNOWN_LITELLM_SETTINGS = _named(LITELLM_SETTINGS)
KNOWN_ENTRY = _named(ENTRY)
KNOWN_SECTIONS = _named(SECTIONS)


def has_effect(section: str) -> bool:
    """Whether a section of this name, which may be an unknown one, is read here."""
    return section in SECTIONS and SECTIONS[section].use is not Use.NO_EFFECT


def is_without_effect(param: str) -> bool:
    """Whether a key of litellm_params is left out because it has no effect here. A price without effect is not: it is
    looked at with the other prices."""
    key = LITELLM_PARAMS.get(param)
    return key is not None and key.use is Use.NO_EFFECT and key.kind != "price"


def is_provider_key(setting: str) -> bool:
    """Whether a key of litellm_settings is the API key of one provider, like `openai_key`."""
    key = LITELLM_SETTINGS.get(setting)
    return key is not None and key.belongs == "api_key"


_SHORTEST = 4  # a key of fewer letters is a slip away from too many
_LONG = 10  # in a key as long as this there may be two slips


@functools.lru_cache(maxsize=1024)
def meant(key: str, known: frozenset[str] = KNOWN_PARAMS) -> str | None:
    """The known key that this one is a slip away from; None for a known key, and for one that is like none.

    A slip is a letter too many, missing, wrong or in its neighbour's place. Another case, a blank or a hyphen for an
    underscore is none at all.
    """
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
    """The number of slips between two words; `most` + 1 where it is clear that there are more than `most`."""
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


_TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def typed(param: str, value: Any) -> Any:
    """A value of litellm_params as the type that its key has. Text that reads as a number or a switch becomes one
    where the key's kind is that; any other text stays as it is."""
    key = LITELLM_PARAMS.get(param)
    if not isinstance(value, str) or key is None:
        return value
    match key.kind:
        case "switch":
            return _TRUTHS.get(value.strip().lower(), value)
        case "integer":
            return _number(value, int, float)
        case "number":
            return _number(value, float)
        case _:
            return value


def _number(text: str, *kinds: type[int] | type[float]) -> Any:
    """The text as the first of these kinds that it reads as; the text itself where it is no finite number."""
    for kind in kinds:
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else text
    return text
