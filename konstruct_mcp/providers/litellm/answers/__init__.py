"""A provider's own answer, as it came before LiteLLM.

provider_answer    the JSON of the HTTP response becomes one `ProviderAnswer`
finish_reasons     what a provider's word for the end means
usage              what it counts and bills
lightening         how many parts LiteLLM is given of it
fields             reading JSON that anybody may have sent
"""
